"""How much memory a VM can get while it runs, and where."""

import pytest

from hypercontainer.hypervisor import memory_sizes as sizes

GIB = 1 << 30


@pytest.mark.parametrize(
    ("total", "began_with", "plugged"),
    [
        (128, 128, 0),
        (96, 128, 0),
        (129, 128, 128),
        (256, 128, 128),
        (257, 128, 256),
        (352, 96, 256),
    ],
)
def test_whole_blocks(total: int, began_with: int, plugged: int) -> None:
    assert sizes.plugged_for(total, began_with) == plugged


@pytest.mark.parametrize(("host", "most"), [(24000, 23936), (100, 0), (1 << 20, 32768)])
def test_no_more_than_the_host_has(host: int, most: int) -> None:
    assert sizes.most_plugged(host) == most


@pytest.mark.parametrize("memory_mib", [48, 128, 3000, 3072, 4097, 100_000])
def test_the_device_is_above_all_ram_and_fits(memory_mib: int) -> None:
    """QEMU (hw/i386/pc.c) has memory that comes later above 4 GiB and what RAM is there, from the
    next GiB on; of RAM up to 3 GiB may be below 4."""
    begin = sizes.address(memory_mib)
    low = min(memory_mib, 3072)
    first = 4 * GIB + ((memory_mib - low) << 20)
    room_begin = -(-first // GIB) * GIB
    assert begin % GIB == 0 and begin >= room_begin + GIB
    end = room_begin + ((sizes.maximum(memory_mib) - memory_mib) << 20)
    assert begin + (sizes.most_plugged(1 << 20) << 20) <= end
