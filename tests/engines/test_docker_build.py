"""`docker build` with RUN steps, and docker-compose, with runv as the default runtime."""

import shutil
from pathlib import Path

import pytest

from tests.engines.commands import run, until
from tests.engines.docker import IMAGE, Docker
from tests.engines.docker_cases import check_build

COMPOSE = r"""
version: "3"
services:
  web:
    image: box
    command: sh -c 'mkdir -p /www; echo composed > /www/index.html; exec httpd -f -p 80 -h /www'
    volumes: ["data:/data"]
    mem_limit: 96m
    restart: on-failure
  client:
    image: box
    depends_on: [web]
    environment: {NAME: web}
    command: >
      sh -c 'until printf "GET / HTTP/1.0\r\n\r\n" | nc -w 3 $$NAME 80; do sleep 1; done;
      sleep 1000'
volumes:
  data: {}
"""


def test_build(docker: Docker, tmp_path: Path) -> None:
    check_build(docker, tmp_path)


def test_build_from_nothing(docker: Docker, tmp_path: Path, archive: Path) -> None:
    shutil.copy(archive, tmp_path / "box.tar")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nADD box.tar /\nRUN echo x > /y\nCMD cat /y")
    docker.check("build", "-t", "fresh", str(tmp_path))
    assert docker.run("fresh").out == "x\n"
    docker.check("rmi", "-f", "fresh")


def test_a_build_step_that_fails(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo why >&2; exit 3\n")
    done = docker.docker("build", str(tmp_path))
    assert done.code != 0
    assert "returned a non-zero code: 3" in done.err
    assert "why" in done.out + done.err


def test_compose(docker: Docker, tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed: `tools/setup engines` does it")
    file = tmp_path / "docker-compose.yml"
    file.write_text(COMPOSE)

    def composed(*argv: str) -> str:
        return run(compose, "-f", str(file), *argv, env=docker.env, check=True).out

    try:
        composed("up", "-d")
        until(lambda: "composed" in composed("logs", "client"), "the page by the service's name")
        assert composed("exec", "-T", "web", "cat", "/sys/fs/cgroup/memory.max") == f"{96 << 20}\n"
        composed("restart", "-t", "2", "client")
        composed("stop", "-t", "2")
    finally:
        composed("down", "-v", "-t", "2")
