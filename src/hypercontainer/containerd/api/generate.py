"""Makes the messages' modules: `python -m hypercontainer.containerd.api.generate [DIRECTORY]`.

Needs grpcio-tools, of the version that pyproject.toml names: what an older compiler makes loads
with every later protobuf of its own and of the next major version.
"""

import os
import subprocess
import sys
from pathlib import Path

from ...errors import HyperError

HERE = Path(__file__).resolve().parent
_SOURCES = HERE.parents[2]
_BOUND = 60.0


def generate(directory: Path) -> None:
    """Write the modules of all `.proto` files below `directory`, as paths of their packages.

    Raises HyperError with what the compiler says.
    """
    protos = sorted(str(path.relative_to(_SOURCES)) for path in HERE.glob("*.proto"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{_SOURCES}"),
            *(f"--python_out={directory}", f"--pyi_out={directory}", *protos),
        ],
        capture_output=True,
        text=True,
        timeout=_BOUND,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise HyperError(f"protobuf modules: {said[-1] if said else 'the compiler failed'}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else _SOURCES)
