"""The table of CPUs, as its readers check it."""

import struct

import pytest

from hypercontainer.hypervisor import mptable

SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}


def entries_of(table: bytes) -> list[bytes]:
    found, at = [], 44
    while at < len(table):
        found.append(table[at : at + SIZES[table[at]]])
        at += len(found[-1])
    return found


@pytest.mark.parametrize("cpus", [2, 8, 64])
def test_the_table_of_so_many_cpus(cpus: int) -> None:
    table = mptable.table(cpus)
    entries = entries_of(table)
    assert (table[:4], sum(table) & 0xFF) == (b"PCMP", 0)
    assert struct.unpack_from("<H", table, 4) == (len(table),)
    assert struct.unpack_from("<HI", table, 34) == (len(entries), 0xFEE00000)
    processors = [entry for entry in entries if entry[0] == 0]
    assert [entry[1] for entry in processors] == list(range(cpus))
    assert [entry[3] for entry in processors] == [3] + [1] * (cpus - 1)
    (io_apic,) = [entry[1] for entry in entries if entry[0] == 2]
    assert io_apic not in range(cpus)
    wires = {entry[5]: entry[7] for entry in entries if entry[0] == 3}
    assert wires == {0: 2, **{line: line for line in range(16) if line not in (0, 2)}}


def test_the_pointer_says_where_it_is() -> None:
    pointer = mptable.pointer(0x100000)
    assert len(pointer) == mptable.POINTER_SIZE
    assert (pointer[:4], sum(pointer) & 0xFF) == (b"_MP_", 0)
    assert struct.unpack_from("<IBB", pointer, 4) == (0x100000, 1, 4)
