"""The table of the specification's fields: complete, obeyed, and in docs/oci.md."""

import json
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import HyperError, NotSupported
from hypercontainer.oci import fields, reference, validate
from hypercontainer.oci.bundle import default_spec

# Configurations that Docker 20.10, Podman 4.3 and containerd 1.6 wrote, with shorter filters.
SAMPLES = Path(__file__).parent / "data" / "oci"
REFUSED = {"docker-oom.json": "linux.resources.memory.disableOOMKiller"}

# The fields of runtime-spec 1.1, as its schema has them (config-schema.json, config-linux.json).
SPECIFICATION = """
ociVersion hostname domainname annotations root.path root.readonly
mounts[].destination mounts[].source mounts[].type mounts[].options
mounts[].uidMappings mounts[].gidMappings
process.terminal process.consoleSize.height process.consoleSize.width process.cwd process.env
process.args process.commandLine process.rlimits[].type process.rlimits[].soft
process.rlimits[].hard process.apparmorProfile process.capabilities.effective
process.capabilities.bounding process.capabilities.inheritable process.capabilities.permitted
process.capabilities.ambient process.noNewPrivileges process.oomScoreAdj
process.scheduler.policy process.scheduler.nice process.scheduler.priority
process.scheduler.flags process.scheduler.runtime process.scheduler.deadline
process.scheduler.period process.selinuxLabel process.ioPriority.class
process.ioPriority.priority process.user.uid process.user.gid process.user.umask
process.user.additionalGids process.user.username
hooks.prestart hooks.createRuntime hooks.createContainer hooks.startContainer hooks.poststart
hooks.poststop
linux.namespaces[].type linux.namespaces[].path linux.uidMappings linux.gidMappings
linux.timeOffsets.monotonic.secs linux.timeOffsets.boottime.nanosecs
linux.devices[].type linux.devices[].path linux.devices[].major linux.devices[].minor
linux.devices[].fileMode linux.devices[].uid linux.devices[].gid linux.cgroupsPath
linux.rootfsPropagation linux.seccomp.defaultAction linux.seccomp.defaultErrnoRet
linux.seccomp.architectures linux.seccomp.flags linux.seccomp.listenerPath
linux.seccomp.listenerMetadata linux.seccomp.syscalls[].names linux.seccomp.syscalls[].action
linux.seccomp.syscalls[].errnoRet linux.seccomp.syscalls[].args[].index
linux.seccomp.syscalls[].args[].value linux.seccomp.syscalls[].args[].valueTwo
linux.seccomp.syscalls[].args[].op linux.sysctl linux.maskedPaths linux.readonlyPaths
linux.mountLabel linux.intelRdt.closID linux.intelRdt.l3CacheSchema linux.intelRdt.memBwSchema
linux.intelRdt.enableCMT linux.intelRdt.enableMBM linux.personality.domain
linux.personality.flags
linux.resources.devices[].allow linux.resources.devices[].type linux.resources.devices[].major
linux.resources.devices[].minor linux.resources.devices[].access linux.resources.memory.limit
linux.resources.memory.reservation linux.resources.memory.swap linux.resources.memory.kernel
linux.resources.memory.kernelTCP linux.resources.memory.swappiness
linux.resources.memory.disableOOMKiller linux.resources.memory.useHierarchy
linux.resources.memory.checkBeforeUpdate linux.resources.cpu.shares linux.resources.cpu.quota
linux.resources.cpu.burst linux.resources.cpu.period linux.resources.cpu.realtimeRuntime
linux.resources.cpu.realtimePeriod linux.resources.cpu.cpus linux.resources.cpu.mems
linux.resources.cpu.idle linux.resources.pids.limit linux.resources.blockIO.weight
linux.resources.blockIO.leafWeight linux.resources.blockIO.weightDevice[].major
linux.resources.blockIO.throttleReadBpsDevice[].rate
linux.resources.blockIO.throttleWriteBpsDevice[].rate
linux.resources.blockIO.throttleReadIOPSDevice[].rate
linux.resources.blockIO.throttleWriteIOPSDevice[].rate
linux.resources.hugepageLimits[].pageSize linux.resources.hugepageLimits[].limit
linux.resources.network.classID linux.resources.network.priorities[].name
linux.resources.rdma.mlx5_1.hcaHandles linux.resources.unified
vm.hypervisor.path vm.hypervisor.parameters vm.kernel.path vm.kernel.parameters
vm.kernel.initrd vm.image.path vm.image.format solaris windows zos
""".split()


def covered(path: str) -> bool:
    """Whether a row is for the path, for something above it, or for all keys there."""
    parts = path.replace("[]", "").split(".")
    for field in fields.FIELDS:
        row = field.path.replace("[]", "").split(".")
        row = row[:-1] if row[-1] == "*" and len(row) > len(parts) else row
        if len(row) <= len(parts) and all(r in ("*", p) for r, p in zip(row, parts, strict=False)):
            return True
    return False


def paths(value: Any, where: str = "") -> list[str]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in paths(v, f"{where}.{k}" if where else k)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [p for item in value for p in paths(item, f"{where}[]")]
    return [where]


@pytest.mark.parametrize("path", SPECIFICATION)
def test_every_field_of_the_specification_has_a_row(path: str) -> None:
    assert covered(path), path


def test_no_field_has_two_rows() -> None:
    found = [field.path for field in fields.FIELDS]
    assert len(found) == len(set(found))
    assert all(field.note for field in fields.FIELDS)


@pytest.mark.parametrize("sample", sorted(p.name for p in SAMPLES.glob("*.json")))
def test_what_engines_write_has_rows_and_is_taken_or_refused(sample: str, tmp_path: Path) -> None:
    text = (SAMPLES / sample).read_text()
    config = json.loads(text)
    missing = [p for p in paths(config) if "annotations" not in p and not covered(p)]
    assert not missing
    for mount in config["mounts"]:
        if "bind" in mount.get("options", []) or "rbind" in mount.get("options", []):
            mount["source"] = str(tmp_path)
    if sample in REFUSED:
        with pytest.raises(NotSupported, match=REFUSED[sample]):
            validate.check(config)
    else:
        validate.check(config)


@pytest.mark.parametrize("field", [f for f in fields.FIELDS if f.treatment == fields.REFUSED])
def test_what_is_refused_is_refused_by_name(field: fields.Field) -> None:
    config: Any = 1
    for part in reversed(field.path.split(".")):
        key = part.removesuffix("[]")
        config = {key: [config] if part.endswith("[]") else config}
    with pytest.raises(NotSupported) as caught:
        fields.check(config)
    assert caught.value.message.startswith(field.path.replace("[]", "[0]"))


@pytest.mark.parametrize("empty", [None, "", 0, False, [], {}])
def test_what_is_refused_may_be_there_and_empty(empty: Any) -> None:
    fields.check({"linux": {"intelRdt": empty, "resources": {"rdma": empty}}, "windows": empty})


def test_an_unknown_field_is_ignored_as_the_specification_wants() -> None:
    config = {**default_spec(), "futureField": {"a": 1}}
    validate.check(config)


def test_odd_shapes_do_not_break_the_walk() -> None:
    for value in (1, "x", [], [1], {"resources": [1]}, {"resources": {"memory": "x"}}):
        try:
            fields.check({"linux": value, "mounts": value, "process": value})
        except HyperError as error:
            assert error.message


def test_the_document_has_the_table() -> None:
    text = Path("docs/oci.md").read_text()
    assert reference.replaced(text) == text, "run python -m hypercontainer.oci.reference"


@pytest.mark.parametrize("suite", ["runc", "crun"])
def test_the_document_has_the_figures_of_the_lists(suite: str) -> None:
    lists = json.loads(Path(f"tests/conformance/{suite}.json").read_text())
    words = [entry[0] for entry in lists.values()]
    assert set(words) <= {"pass", "fail", "n/a"}
    assert all(len(entry) == 2 and entry[1] for entry in lists.values() if entry[0] != "pass")
    good, bad = words.count("pass"), words.count("fail")
    assert good / (good + bad) >= 0.8
    figures = [len(words), words.count("n/a"), good + bad, good, bad]
    row = f"| {' | '.join(map(str, figures))} | {100 * good / (good + bad):.0f} % |"
    lines = Path("docs/oci.md").read_text().splitlines()
    assert any(line.startswith(f"| {suite} ") and line.endswith(row) for line in lines), row
