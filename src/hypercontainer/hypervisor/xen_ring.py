"""A guest's console as a byte stream: the host's half of Xen's console ring.

The guest grants a page that both write to, and an event channel tells either of news: see
xen/include/public/io/console.h, and Linux's gntdev.h and evtchn.h for the devices. Xen's own
console daemon serves the first console only; QEMU serves others, but drops what its reader does
not take in time, which a protocol can't bear.
"""

import fcntl
import mmap
import os
import select
import socket
import struct
from collections.abc import Callable

GRANTS = "/dev/xen/gntdev"
EVENTS = "/dev/xen/evtchn"
_PAGE = 4096
_IN_SIZE, _OUT_SIZE = 1024, 2048
# Where the counters are, as 32-bit words: they count bytes, and wrap at 2^32.
_IN_CONSUMED, _IN_PRODUCED, _OUT_CONSUMED, _OUT_PRODUCED = range(768, 772)
_MAP_GRANT = 0x00184700
_BIND_INTERDOMAIN = 0x00084501
_NOTIFY = 0x00044504
_MASK = 0xFFFFFFFF
_CHUNK = 1 << 16


class Ring:
    """The page of a console. `notify` tells the guest of news."""

    def __init__(self, page: memoryview, notify: Callable[[], None]) -> None:
        self._page = page
        self._words = page.cast("I")
        self._notify = notify

    def pull(self) -> bytes:
        """What the guest has written since; "" for nothing. Raises OSError for a broken ring."""
        consumed, produced = self._words[_OUT_CONSUMED], self._words[_OUT_PRODUCED]
        size = (produced - consumed) & _MASK
        if size > _OUT_SIZE:
            raise OSError("the guest broke the ring of a console")
        start = consumed % _OUT_SIZE
        ahead = min(size, _OUT_SIZE - start)
        data = bytes(self._page[_IN_SIZE + start : _IN_SIZE + start + ahead])
        data += bytes(self._page[_IN_SIZE : _IN_SIZE + size - ahead])
        if data:
            self._words[_OUT_CONSUMED] = produced
            self._notify()
        return data

    def push(self, data: bytes) -> int:
        """Write what there is room for; returns how much. Raises OSError for a broken ring."""
        consumed, produced = self._words[_IN_CONSUMED], self._words[_IN_PRODUCED]
        used = (produced - consumed) & _MASK
        if used > _IN_SIZE:
            raise OSError("the guest broke the ring of a console")
        size = min(len(data), _IN_SIZE - used)
        start = produced % _IN_SIZE
        ahead = min(size, _IN_SIZE - start)
        self._page[start : start + ahead] = data[:ahead]
        self._page[: size - ahead] = data[ahead:size]
        if size:
            self._words[_IN_PRODUCED] = (produced + size) & _MASK
            self._notify()
        return size


class Events:
    """An event channel to a domain; `fd` is readable at news."""

    def __init__(self, domain: int, port: int) -> None:
        """Bind to a port of the domain. Raises OSError."""
        self.fd = os.open(EVENTS, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        # A buffer that can be changed makes the call return its result.
        wanted = bytearray(struct.pack("=II", domain, port))
        self._port = fcntl.ioctl(self.fd, _BIND_INTERDOMAIN, wanted)

    def notify(self) -> None:
        """Tell the other end."""
        fcntl.ioctl(self.fd, _NOTIFY, struct.pack("=I", self._port))

    def acknowledge(self) -> None:
        """Take the news, so that there may be others."""
        try:
            os.write(self.fd, os.read(self.fd, 4))
        except BlockingIOError:
            pass


def granted_page(domain: int, grant: int) -> memoryview:
    """A page that a domain lets us have, mapped until nobody uses it. Raises OSError."""
    fd = os.open(GRANTS, os.O_RDWR | os.O_CLOEXEC)
    try:
        wanted = bytearray(struct.pack("=IIQII", 1, 0, 0, domain, grant))
        fcntl.ioctl(fd, _MAP_GRANT, wanted)
        (offset,) = struct.unpack_from("=Q", wanted, 8)
        return memoryview(mmap.mmap(fd, _PAGE, offset=offset))
    finally:
        os.close(fd)


class Channel:
    """A ring and the socket whose bytes it carries; no side is read while the other is full."""

    def __init__(self, ring: Ring, sock: socket.socket) -> None:
        self.ring = ring
        self.sock = sock
        self._to_guest = b""
        self._to_host = b""

    @property
    def wants(self) -> int:
        """What to poll the socket for."""
        wanted = 0 if self._to_guest else select.POLLIN
        return wanted | (select.POLLOUT if self._to_host else 0)

    def carry(self) -> None:
        """Move what can be moved. Raises OSError; EOFError when the socket's other end is gone."""
        while self._from_guest() or self._from_host():
            pass

    def _from_guest(self) -> bool:
        self._to_host = self._to_host or self.ring.pull()
        if not self._to_host:
            return False
        try:
            sent = self.sock.send(self._to_host)
        except BlockingIOError:
            return False
        self._to_host = self._to_host[sent:]
        return True

    def _from_host(self) -> bool:
        if not self._to_guest:
            try:
                self._to_guest = self.sock.recv(_CHUNK)
            except BlockingIOError:
                return False
            if not self._to_guest:
                raise EOFError
        pushed = self.ring.push(self._to_guest)
        self._to_guest = self._to_guest[pushed:]
        return pushed > 0
