"""The Python client: programs run to their end, files both ways, bounds, nothing left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hypercontainer import AsyncClient
from hypercontainer.client import TooLarge
from hypercontainer.errors import BadRequest, HyperError, NotFound, ProgramError, Timeout
from tests.e2e.hyperd_process import Hyperd, wait_until
from tests.python_image import write_python_image

pytestmark = pytest.mark.timeout(120)
EXAMPLE = Path(__file__).parents[2] / "examples" / "untrusted_python.py"


def nothing_of(hyperd: Hyperd) -> None:
    assert hyperd.client.list_containers(all=True) == []
    hyperd.nothing_left()


def test_run_with_files_and_bounds(hyperd: Hyperd) -> None:
    script = (
        "cat /in/a - > /out/both; ln -s /etc/passwd /out/link; ln /out/both /out/hard;"
        " ls /sys/class/net; head -c 300000 /dev/zero; echo $WHO >&2; id -u; exit 3"
    )
    result = hyperd.client.run(
        "busybox",
        ["sh", "-c", script],
        input=b"stdin",
        env={"WHO": "me"},
        files={"/in/a": b"file "},
        workdir="/out",
        memory="96m",
        outputs=["/out", "/nowhere"],
        max_output=1000,
    )
    assert (result.exit_code, result.stderr, result.truncated) == (3, b"me\n", True)
    assert len(result.stdout) == 1000
    assert result.stdout.startswith(b"lo\n\0"), "no other card"
    assert result.files == {"/out/both": b"file stdin", "/out/hard": b"file stdin"}
    nothing_of(hyperd)


def test_a_timeout_kills_and_says_so(hyperd: Hyperd) -> None:
    result = hyperd.client.run("busybox", ["sh", "-c", "echo begun; sleep 1000"], timeout=1.5)
    assert (result.exit_code, result.timed_out, result.stdout) == (137, True, b"begun\n")
    nothing_of(hyperd)


def test_errors_are_typed_and_leave_nothing(hyperd: Hyperd) -> None:
    client = hyperd.client
    with pytest.raises(ProgramError) as missing:
        client.run("busybox", ["nonsense"])
    assert missing.value.exit_code == 127
    with pytest.raises(NotFound, match="image"):
        client.run("nonsense:none", pull=False)
    with pytest.raises(BadRequest, match=r"memory: '12q' is not"):
        client.run("busybox", memory="12q")
    with pytest.raises(BadRequest, match="list of words"):
        client.run("busybox", "uname -r")
    with pytest.raises(BadRequest, match="absolute path"):
        client.run("busybox", files={"../x": b""})
    with pytest.raises(TypeError, match="unknown option 'memry'"):
        client.run("busybox", memry=1)  # type: ignore[call-arg]
    nothing_of(hyperd)


def test_a_container_as_an_object(hyperd: Hyperd) -> None:
    client = hyperd.client
    with (
        pytest.raises(ZeroDivisionError),
        client.create("busybox", ["sh", "-c", "echo up; echo err >&2; sleep 1000"]) as box,
    ):
        box.start()
        done = box.exec(["sh", "-c", "cat; echo $A; exit 4"], input=b"x" * 300000, env={"A": "b"})
        assert (done.exit_code, done.stdout) == (4, b"x" * 300000 + b"b\n")
        slow = box.exec(["sleep", "1000"], timeout=0.5)
        assert (slow.exit_code, slow.timed_out) == (137, True)
        box.put_files({"/data/deep/a": b"1" * 5000, "/data/b": b"2"})
        assert box.get_files("/data") == {"/data/deep/a": b"1" * 5000, "/data/b": b"2"}
        assert box.get_files("/data/b") == {"/data/b": b"2"}
        with pytest.raises(TooLarge, match="more than 5000 bytes"):
            box.get_files("/data", max_bytes=5000)
        with pytest.raises(TooLarge, match="2 files"):
            box.get_files("/data", max_files=2)
        assert box.stats()["memory_stats"]["usage"] > 0
        assert box.inspect()["Name"].startswith("/python-")
        with pytest.raises(Timeout):
            box.wait(timeout=1)
        logs = box.logs()
        assert (logs.exit_code, logs.stdout, logs.stderr) == (-1, b"up\n", b"err\n")
        box.kill()
        assert box.wait() == 137
        raise ZeroDivisionError
    with pytest.raises(NotFound):
        box.inspect()
    nothing_of(hyperd)


async def test_asyncio(hyperd: Hyperd) -> None:
    async with AsyncClient(hyperd.client.address.text, max_calls=4) as client:
        results = await asyncio.gather(
            *(client.run("busybox", ["echo", str(n)]) for n in range(3)),
        )
        assert [result.stdout for result in results] == [b"0\n", b"1\n", b"2\n"]
        kinds = [
            event["Action"]
            async for event in client.events(since="1", until=str(int(time.time())))
            if event["Type"] == "container"
        ]
        assert kinds.count("start") >= 3
        async with await client.create("busybox", ["sleep", "1000"]) as box:
            await box.start()
            assert (await box.exec(["echo", "in"])).stdout == b"in\n"
            running = asyncio.ensure_future(box.exec(["sh", "-c", "echo up > /up; exec sleep 777"]))
            await box.exec(["sh", "-c", "until test -e /up; do sleep 0.1; done"], timeout=60)
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
            still = await box.exec(["sh", "-c", "ps | grep -c 'sleep 77[7]'"])
            assert still.stdout == b"0\n", "a cancelled exec is killed"
            waiting = client.events()
            task = asyncio.ensure_future(anext(aiter(waiting)))
            await asyncio.sleep(0.2)
            task.cancel()  # it waits without end otherwise
            await asyncio.wait([task])
            assert task.cancelled()
    nothing_of(hyperd)


async def _events(client: AsyncClient) -> AsyncIterator[str]:
    async for event in client.events():
        yield f"{event['Type']} {event['Action']}"


async def test_a_cancelled_run_leaves_nothing(hyperd: Hyperd) -> None:
    async with AsyncClient(hyperd.client.address.text) as client:
        task = asyncio.ensure_future(client.run("busybox", ["sleep", "1000"]))
        async for event in _events(client):
            if event == "container start":
                break
        task.cancel()
        await asyncio.wait([task], timeout=60)
        assert task.cancelled()
    nothing_of(hyperd)


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3])
async def test_a_run_cancelled_at_any_moment(hyperd: Hyperd, moment: float) -> None:
    async with AsyncClient(hyperd.client.address.text) as client:
        task = asyncio.ensure_future(client.run("busybox", ["sleep", "1000"]))
        await asyncio.sleep(moment)
        task.cancel()
        await asyncio.wait([task], timeout=60)
        assert task.cancelled()
    wait_until(lambda: not hyperd.client.list_containers(all=True), "no container")
    hyperd.nothing_left()


def test_hyperd_is_killed_and_started_while_a_program_runs(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(hyperd.client.run, "busybox", ["sleep", "1000"])
        wait_until(lambda: bool(hyperd.client.list_containers()), "its start", 60)
        hyperd.end(signal.SIGKILL)
        hyperd.start()
        assert isinstance(run.exception(60), HyperError)
    nothing_of(hyperd)


def test_the_example(hyperd: Hyperd, tmp_path: Path) -> None:
    image = write_python_image(tmp_path / "image.tar")
    with open(image.removeprefix("oci-archive:"), "rb") as archive:
        for _ in hyperd.client.load(archive):
            pass
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "print(sum(map(int, sys.stdin.read().split())), os.listdir('/sys/class/net'))\n"
        "open('result.txt', 'w').write('from the VM')\n"
        "sys.exit(5)\n"
    )
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--image=python:test", str(script), str(tmp_path / "out")],
        input=b"1 2 3",
        capture_output=True,
        timeout=100,
        env={**os.environ, "HYPER_HOST": hyperd.client.address.text},
    )
    assert (done.returncode, done.stdout) == (5, b"6 ['lo']\n"), done
    assert (tmp_path / "out" / "1").read_text() == "from the VM"
    assert b"'/out/result.txt': 11 bytes" in done.stderr
    nothing_of(hyperd)
