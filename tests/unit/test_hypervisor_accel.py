"""The verdict on KVM: kept per boot, QEMU, kernel and initrd, and never in the way."""

import json
import os
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, VMError
from hypercontainer.guest import kernel
from hypercontainer.guest.kernel import GuestImage
from hypercontainer.hypervisor import accel


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuestImage:
    for name in ("qemu", "kernel", "initrd"):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("HYPER_QEMU", str(tmp_path / "qemu"))
    monkeypatch.setattr(kernel, "INSTALLED", str(tmp_path / "installed"))
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path / "cache"))
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accel, "DEVICE", str(device))
    monkeypatch.setattr(accel, "VERDICT", str(tmp_path / "run" / "verdict.json"))
    return GuestImage(str(tmp_path / "kernel"), str(tmp_path / "initrd"), "custom")


def verdict() -> Path:
    return Path(accel.VERDICT)


def remember(image: GuestImage, trouble: str) -> None:
    verdict().parent.mkdir(exist_ok=True)
    verdict().write_text(json.dumps({"key": accel._key(image), "trouble": trouble}))


def test_the_emulator_when_asked_for_looks_at_no_device(image: GuestImage) -> None:
    Path(accel.DEVICE).unlink()
    assert accel.choose("tcg", image) == ("tcg", "asked for")


def test_no_device_falls_back_and_says_why(image: GuestImage) -> None:
    Path(accel.DEVICE).unlink()
    engine, why = accel.choose("auto", image)
    assert engine == "tcg"
    assert "does not exist" in why
    with pytest.raises(VMError, match=r"kvm can't be used: .* does not exist.*use accel=auto"):
        accel.choose("kvm", image)


def test_a_device_that_can_not_be_opened(image: GuestImage) -> None:
    Path(accel.DEVICE).unlink()
    Path(accel.DEVICE).mkdir()
    engine, why = accel.choose("auto", image)
    assert engine == "tcg"
    assert "can't be opened" in why


def test_a_known_verdict_starts_nothing(image: GuestImage) -> None:
    remember(image, "a guest died under KVM: oops")
    assert accel.choose("auto", image) == ("tcg", "a guest died under KVM: oops")
    remember(image, "")
    assert accel.choose("auto", image) == ("kvm", "")
    assert accel.choose("kvm", image) == ("kvm", "")


def test_an_unknown_engine(image: GuestImage) -> None:
    with pytest.raises(BadRequest, match="'xen'"):
        accel.choose("xen", image)


def test_a_custom_guest_is_not_what_kvm_is_tried_with(image: GuestImage, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    ours = GuestImage(str(installed / "kernel"), str(installed / "hyper-initrd.img"), "hyperkernel")
    for path in ours[:2]:
        Path(path).touch()
    remember(ours, "it died")
    assert accel.choose("auto", image) == ("tcg", "it died")


@pytest.mark.parametrize("what", ["qemu", "kernel", "initrd"])
def test_the_verdict_is_for_these_files_only(image: GuestImage, what: str, tmp_path: Path) -> None:
    before = accel._key(image)
    path = tmp_path / what
    stamp = path.stat().st_mtime_ns + 1
    os.utime(path, ns=(stamp, stamp))
    assert accel._key(image) != before


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"key": "other", "trouble": ""}', '{"trouble": "x"}']
)
def test_a_verdict_that_is_none_is_found_out_anew(image: GuestImage, content: str) -> None:
    verdict().parent.mkdir()
    verdict().write_text(content)
    assert accel._known(accel._key(image)) is None


def test_a_key_without_a_verdict_is_found_out_anew(image: GuestImage) -> None:
    verdict().parent.mkdir()
    verdict().write_text(json.dumps({"key": accel._key(image)}))
    assert accel._known(accel._key(image)) is None


@pytest.mark.parametrize(("seconds", "known"), [(60, "slow"), (-1, None)])
def test_what_a_busy_host_found_is_not_believed_for_long(
    image: GuestImage, seconds: float, known: str | None
) -> None:
    accel._remember(accel._key(image), "slow", sure=False)
    kept = json.loads(verdict().read_text())
    assert accel._now() < kept["until"] < accel._now() + 3600
    verdict().write_text(json.dumps({**kept, "until": accel._now() + seconds}))
    assert accel._known(accel._key(image)) == known


def test_a_vmm_that_dies_gives_its_last_words_and_is_remembered(
    image: GuestImage, tmp_path: Path
) -> None:
    (tmp_path / "qemu").write_text("#!/bin/sh\necho 'kvm: error: no MSR' >&2\nexit 1\n")
    engine, why = accel.choose("auto", image)
    assert engine == "tcg"
    assert why == "a guest died under KVM: kvm: error: no MSR"
    assert accel._known(accel._key(image)) == why
    assert verdict().stat().st_mode & 0o777 == 0o644


def test_a_verdict_that_can_not_be_kept_is_no_error(
    image: GuestImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "qemu").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(accel, "VERDICT", str(tmp_path / "kernel" / "x" / "verdict.json"))
    engine, why = accel.choose("auto", image)
    assert engine == "tcg"
    assert "gave no reason" in why
