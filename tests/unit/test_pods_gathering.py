"""Files by URI, from a real server on loopback and from this host, with all bounds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from hypercontainer.errors import BadRequest, HyperError, NotFound, Timeout
from hypercontainer.pods import gathering
from hypercontainer.pods.gathering import Gathered, gather
from hypercontainer.pods.model import Container
from hypercontainer.pods.spec import parse_pod
from hypercontainer.pods.spec_volumes import MAX_FILE


def container_with(*uris: str) -> Container:
    """A container with files from there."""
    files = [{"path": f"/f{n}", "detail": {"name": "f", "uri": u}} for n, u in enumerate(uris)]
    spec = parse_pod({"containers": [{"image": "i", "files": files}]}).containers[0]
    return Container(
        id="c" * 64,
        pod_id="p",
        name="c",
        raw={},
        spec=spec,
        image="i",
        image_id="sha",
        image_config={},
        created_at="",
    )


def gathered(*uris: str, hosts: tuple[str, ...] = ()) -> Gathered:
    """What such a container gets."""
    return asyncio.run(gather(container_with(*uris), hosts))


def served(work: Callable[[str], Awaitable[None]]) -> None:
    """Run with the address of a server that has good and bad files."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))

    async def stuck(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def loop(request: web.Request) -> web.Response:
        raise web.HTTPFound("/loop")

    async def good(request: web.Request) -> web.Response:
        return web.Response(body=b"\0good\xff")

    async def main() -> None:
        app = web.Application()
        for path, handler in (
            *(("/good", good), ("/endless", endless), ("/stuck", stuck), ("/loop", loop)),
        ):
            app.router.add_get(path, handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        try:
            await work(f"http://{host}:{port}")
        finally:
            await runner.cleanup()

    asyncio.run(main())


def test_by_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FETCH_BOUND", 1.0)

    async def work(base: str) -> None:
        found = await gather(container_with(f"{base}/good", f"{base}/good"), ())
        assert found.contents == {f"{base}/good": b"\0good\xff"}
        for path, kind, says in (
            ("/none", NotFound, "not found"),
            ("/endless", BadRequest, "more than"),
            ("/stuck", Timeout, "not there within"),
            ("/loop", HyperError, "/loop"),
        ):
            with pytest.raises(kind, match=says):
                await gather(container_with(base + path), ())

    served(work)


def test_by_file(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"x")
    (tmp_path / "big").write_bytes(bytes(MAX_FILE + 1))
    uri = f"file://{tmp_path}/a%20b"
    assert gathered(uri).contents == {uri: b"x"}
    for path, kind, says in (
        ("none", NotFound, "does not exist"),
        ("big", BadRequest, "more than"),
        ("", BadRequest, "regular file|directory"),
    ):
        with pytest.raises(kind, match=says):
            gathered(f"file://{tmp_path}/{path}")
    with pytest.raises(BadRequest, match="regular file"):
        gathered("file:///dev/zero")


def test_no_server() -> None:
    with pytest.raises(HyperError, match=r"127\.0\.0\.1"):
        gathered("http://127.0.0.1:9/x")
    assert gathered(hosts=("127.0.0.1",)).addresses == {"127.0.0.1": "127.0.0.1"}
    with pytest.raises(NotFound, match="no such host"):
        gathered(hosts=("nothing.invalid",))


@pytest.mark.parametrize("uri", ["ftp://h/x", "file://other/x", "http:///x", "file:", "http://[x"])
def test_bad_uris(uri: str) -> None:
    with pytest.raises(BadRequest, match=r"containers\[0\].files\[0\].detail.uri"):
        container_with(uri)
