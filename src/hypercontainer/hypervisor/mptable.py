"""The table by which Linux learns of CPUs and interrupts without ACPI.

By Intel's MultiProcessor Specification 1.4, chapter 4. Linux takes all CPUs that it lists for
those that there can be, whether they are there yet or not.
"""

import struct

POINTER_SIZE = 16
_POINTER = struct.Struct("<4sIBBB5x")
# signature, size, revision, checksum, maker, product, OEM's table and its size, entries, local
# APIC, extended table
_HEADER = struct.Struct("<4sHBB8s12sIHHII")
# type, APIC, its version, flags, the CPU's signature and features, which Linux asks the CPU for
_PROCESSOR = struct.Struct("<BBBB16x")
_BUS = struct.Struct("<BB6s")
# type, number, version, flags, address
_IO_APIC = struct.Struct("<BBBBI")
# type, kind, flags, bus, its line, APIC, its pin
_INTERRUPT = struct.Struct("<BBHBBBB")
_REVISION = 4
_LOCAL_APIC_AT, _IO_APIC_AT = 0xFEE00000, 0xFEC00000
_ENABLED, _FIRST = 1, 2
_VECTORED, _NON_MASKABLE, _EXTERNAL = 0, 1, 3
_ACTIVE_HIGH_LEVEL = 0b1101
_ISA = 0
_EVERY_APIC = 0xFF
# Where the machine's firmware leads the wires of cards.
_CARDS = (10, 11)
_TIMER, _TIMER_PIN = 0, 2


def pointer(table_at: int) -> bytes:
    """What Linux searches for: 16 bytes that say where the table is."""
    return _summed(_POINTER.pack(b"_MP_", table_at, 1, _REVISION, 0), 10)


def table(cpus: int) -> bytes:
    """That of a machine `pc` of QEMU, for up to `cpus` CPUs with APICs from 0 on."""
    io_apic = cpus
    entries = [_PROCESSOR.pack(0, i, 0x14, _ENABLED | (0 if i else _FIRST)) for i in range(cpus)]
    entries.append(_BUS.pack(1, _ISA, b"ISA   "))
    entries.append(_IO_APIC.pack(2, io_apic, 0x11, _ENABLED, _IO_APIC_AT))
    for line in range(16):
        # By pin 2 comes the timer: in a PC, the second controller comes in there.
        if line != _TIMER_PIN:
            flags = _ACTIVE_HIGH_LEVEL if line in _CARDS else 0
            pin = _TIMER_PIN if line == _TIMER else line
            entries.append(_INTERRUPT.pack(3, _VECTORED, flags, _ISA, line, io_apic, pin))
    entries += [
        _INTERRUPT.pack(4, kind, 0, _ISA, 0, _EVERY_APIC, pin)
        for pin, kind in enumerate((_EXTERNAL, _NON_MASKABLE))
    ]
    body = b"".join(entries)
    names = (b"HYPER   ", b"CONTAINER   ")
    size = _HEADER.size + len(body)
    header = _HEADER.pack(
        b"PCMP", size, _REVISION, 0, *names, 0, 0, len(entries), _LOCAL_APIC_AT, 0
    )
    return _summed(header + body, 7)


def _summed(data: bytes, at: int) -> bytes:
    """With the byte at `at` such that all together are 0."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]
