"""Credentials from Docker's configuration: all its forms."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, NotSupported
from hypercontainer.images.auth import Auth, from_config, from_header, to_header


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def _write(path: Path, **content: Any) -> None:
    path.write_text(json.dumps(content))


def _pair(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_without_a_file_there_are_none(config: Path) -> None:
    assert await from_config("a:1", config) is None


async def test_by_auths(config: Path) -> None:
    _write(
        config,
        auths={
            "https://index.docker.io/v1/": {"auth": _pair("hub", "p:w")},
            "http://127.0.0.1:5000/v2": {"username": "u", "password": "v"},
            "t": {"auth": _pair("x", ""), "identitytoken": "long"},
            "empty": {},
        },
    )
    assert await from_config("docker.io", config) == Auth("hub", "p:w")
    assert await from_config("127.0.0.1:5000", config) == Auth("u", "v")
    assert await from_config("t", config) == Auth("x", "", identity_token="long")
    assert await from_config("empty", config) is None
    assert await from_config("127.0.0.1:5001", config) is None


def _helper(folder: Path, name: str, answer: str, code: int = 0) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(
        f'#!/bin/sh\nread -r key || true\necho "$1 $key" >>{folder}/asked\n'
        f"cat <<'END'\n{answer}\nEND\nexit {code}\n"
    )
    path.chmod(0o755)


async def test_by_helpers(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _helper(tmp_path, "one", '{"Username": "u", "Secret": "s"}')
    _helper(tmp_path, "two", '{"Username": "<token>", "Secret": "t"}')
    _helper(tmp_path, "none", "credentials not found in native keychain", 1)
    _write(config, credHelpers={"a:1": "one"}, credsStore="two")
    assert await from_config("a:1", config) == Auth("u", "s")
    assert await from_config("b", config) == Auth(identity_token="t")
    assert (tmp_path / "asked").read_text() == "get a:1\nget b\n"
    _write(config, credsStore="none", auths={"b": {"auth": _pair("c", "d")}})
    assert await from_config("b", config) == Auth("c", "d")


async def test_a_helper_that_fails_is_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _write(config, credHelpers={"a": "absent", "b": "bad", "c": "odd"})
    _helper(tmp_path, "bad", "the vault is locked", 2)
    _helper(tmp_path, "odd", "hello")
    with pytest.raises(NotSupported, match="no program docker-credential-absent"):
        await from_config("a", config)
    with pytest.raises(BadRequest, match="docker-credential-bad failed for b: the vault is locked"):
        await from_config("b", config)
    with pytest.raises(BadRequest, match="not as agreed"):
        await from_config("c", config)


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"a": {"auth": "%%"}}}'])
async def test_a_bad_file_is_named(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(BadRequest, match=str(config)):
        await from_config("a", config)


def test_the_header_of_requests() -> None:
    auth = Auth("u", "p", "i", "r")
    assert from_header(to_header(auth)) == auth
    assert from_header("") is None
    assert from_header(to_header(Auth())) is None
    for bad in ("%", "e30x", base64.urlsafe_b64encode(b"[]").decode()):
        with pytest.raises(BadRequest, match="X-Registry-Auth"):
            from_header(bad)


def test_secrets_are_not_shown() -> None:
    assert "geheim" not in repr(Auth("u", "geheim", "geheim", "geheim"))
