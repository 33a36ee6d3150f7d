"""Python's memory in a process that forks sandboxes, so that it stays shared with them.

CPython counts references in the objects themselves, so a forked process writes to most pages that
it reads. `share` makes that undone at a later time: `giveback/python/heap.c` says how, and what is
done here is what only this process knows: where objects are. Also what else is written by
reading is written before the forks: hashes of strings, versions of types; and code does not count
how often it was called (PEP 659), so that it stays as it was compiled.

All this is the inside of CPython 3.11 (Include/object.h, Include/cpython/code.h); with another
interpreter, or without the library that `make giveback` builds, memory is shared as a fork does it.
"""

import ctypes
import gc
import os
import sys
import types
from typing import Any

from ..guest.kernel import INSTALLED, cache_directory

_LIBRARY = "hyper-giveback-python.so"
# The upper 24 bits of the counts of objects that are never freed. No pointer and no text has them.
_MARK = 0x0B1A5E
_MARKED = _MARK << 40
# In a code object: the flags, and the calls that are left until it is specialized, negative.
_CODE_FLAGS, _CODE_CALLS = 48, 52
_MOST_CALLS = 8
_WORD = 8
_PAGE = 4096
# Arenas of objects are of 1 MiB; what is less are stacks and such.
_LEAST, _LARGEST = 1 << 20, 256 << 20
# Pools, each for objects of one size (Objects/obmalloc.c), and what is before the first of one.
_POOL, _POOL_HEADER = 16 << 10, 48
_LEAST_SMALL, _MOST_SMALL, _SMALL_STEP = 32, 512, 16
_BYTES_HEADER = 33
_NO_SUCH_NAME = "hyper.no.such.name"
_PLAIN = (str, bytes)

_library: ctypes.PyDLL | None = None
_filling: list[Any] = []


def share() -> None:
    """Put all of Python's memory where processes forked from now on share it."""
    global _library
    gc.collect()
    path = library()
    if path and _is_known():
        loaded = ctypes.PyDLL(path)
        loaded.heap_give_back.restype = ctypes.c_long
        _mark_all()
        gc.collect()
        gc.freeze()
        _fill_pools()
        bounds = [end for part in _parts() for end in part]
        array = (ctypes.c_uint64 * len(bounds))(*bounds)
        _library = loaded
        if failed := loaded.heap_share(array, len(bounds) // 2, _MARK):
            reason = os.strerror(-failed)
            sys.stderr.write(f"memory of sandboxes is shared in part only: {reason}\n")
    else:
        gc.freeze()


def give_back() -> int:
    """Share again what of this process's memory is as it was before the fork but for counts.

    Returns the bytes; 0 in a process that has other threads, which might be at work.
    """
    if _library is None or len(os.listdir("/proc/self/task")) > 1:
        return 0
    return max(0, int(_library.heap_give_back())) * _PAGE


def library() -> str:
    """The path of the library, "" where it is not built."""
    paths = (os.path.join(place, _LIBRARY) for place in (cache_directory(), INSTALLED))
    return next(filter(os.path.exists, paths), "")


def _is_known() -> bool:
    """Whether objects are laid out as they are taken to be here."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        return False
    if hasattr(sys, "gettotalrefcount") or os.sysconf("SC_PAGESIZE") != _PAGE:
        return False
    probe = object()
    # One of the two that it says is its own argument.
    same = ctypes.c_int64.from_address(id(probe)).value == sys.getrefcount(probe) - 1
    return same and _calls(_is_known.__code__) is not None


def _calls(code: types.CodeType) -> ctypes.c_int16 | None:
    """Where a code object counts its calls, None when it seems to be elsewhere."""
    flags = ctypes.c_int32.from_address(id(code) + _CODE_FLAGS)
    calls = ctypes.c_int16.from_address(id(code) + _CODE_CALLS)
    return calls if flags.value == code.co_flags and -_MOST_CALLS <= calls.value <= 0 else None


def _mark_all() -> None:
    """Have no object that there is freed any more, by its count."""
    gc.disable()
    words = (ctypes.c_int64 * (1 << 44)).from_address(0)
    kinds: set[type] = set()
    # Not in a variable of its own: what is marked would hold it for ever.
    found = [*_singletons(), *gc.get_objects()]
    while found:
        thing = found.pop()
        word = id(thing) // _WORD
        if words[word] >= _MARKED:
            continue
        words[word] += _MARKED
        kind = type(thing)
        if kind not in kinds:
            kinds.add(kind)
            found.append(kind)
        if kind in _PLAIN:
            hash(thing)
        elif kind is types.CodeType:
            found += _of_code(thing)
        else:
            found += gc.get_referents(thing)
            if issubclass(kind, type):
                found += _of_type(thing)
    gc.enable()


def _fill_pools() -> None:
    """Take what is free between objects, so that new ones lie together and not among old ones."""
    for size in range(_LEAST_SMALL, _MOST_SMALL + 1, _SMALL_STEP):
        while True:
            taken = bytes(size - _BYTES_HEADER) if size > _BYTES_HEADER else float(len(_filling))
            _filling.append(taken)
            if id(taken) % _POOL == _POOL_HEADER:
                break


def _singletons() -> list[Any]:
    """What no object that is looked at need refer to."""
    single: list[Any] = [None, True, False, Ellipsis, NotImplemented, object, (), "", b""]
    return [*single, *range(-5, 257), *map(chr, range(256)), *(bytes([i]) for i in range(256))]


def _of_code(code: types.CodeType) -> list[Any]:
    calls = _calls(code)
    if calls is not None:
        calls.value = 0
    names = [code.co_names, code.co_filename, code.co_name, code.co_qualname]
    return [*names, code.co_consts, code.co_linetable, code.co_exceptiontable]


def _of_type(kind: type) -> list[Any]:
    """What a type that is not made by Python code refers to; it gets its version by a look."""
    try:
        getattr(kind, _NO_SUCH_NAME, None)
    except Exception:  # of a metaclass's own
        pass
    return [kind.__mro__, kind.__bases__, *type.__subclasses__(kind), kind.__dict__]


def _parts() -> list[tuple[int, int]]:
    """Begin and end of memory that holds objects: arenas, the heap, and the interpreter's data."""
    own = os.path.realpath("/proc/self/exe")
    parts = []
    with open("/proc/self/maps") as file:
        for line in file:
            span, how, _, _, inode, *rest = line.split(None, 5)
            begin, end = (int(bound, 16) for bound in span.split("-"))
            name = rest[0].strip() if rest else ""
            arenas = inode == "0" and not name and _LEAST <= end - begin <= _LARGEST
            interpreter = name == own or os.path.basename(name).startswith("libpython")
            if how == "rw-p" and (arenas or interpreter or name == "[heap]"):
                parts.append((begin, end))
    return parts
