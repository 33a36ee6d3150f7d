"""What is asked of each Docker, whichever way it gets to VMs."""

import os
from pathlib import Path

from tests.engines.docker import IMAGE, Docker

_DOCKERFILE = """
FROM {base}
ARG WORD=none
ENV GREETING=hello
COPY file /opt/file
RUN cat /opt/file && mkdir /made && echo "$GREETING $WORD" > /made/text
RUN uname -r > /made/kernel
WORKDIR /made
USER app
RUN id -u > /tmp/uid
CMD ["cat", "text", "/opt/file", "/tmp/uid"]
"""


def check_build(docker: Docker, context: Path) -> None:
    """Build an image, each RUN step in a VM, of files in the empty directory `context`; run it."""
    (context / "Dockerfile").write_text(_DOCKERFILE.format(base=IMAGE))
    (context / "file").write_text("copied\n")
    said = docker.check("build", "-t", "built", "--build-arg", "WORD=world", str(context))
    assert "copied" in said
    assert docker.run("built").out == "hello world\ncopied\n1000\n"
    assert docker.run("built", "cat", "/made/kernel").out != f"{os.uname().release}\n"
    docker.check("rmi", "-f", "built")
