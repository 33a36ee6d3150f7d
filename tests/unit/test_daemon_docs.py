"""The documents say what the code does."""

import re
from pathlib import Path
from types import ModuleType

from hypercontainer import errors
from hypercontainer.daemon.config_keys import markdown_table
from hypercontainer.daemon.main import parser
from hypercontainer.daemon.reference import reference
from hypercontainer.errors import HyperError
from hypercontainer.images import failures

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_keys() -> None:
    assert markdown_table() in (DOCS / "hyperd.md").read_text()


def test_the_flags() -> None:
    text = (DOCS / "hyperd.md").read_text()
    flags = {option for action in parser()._actions for option in action.option_strings}
    assert set(re.findall(r"^\| `(--\w+)", text, re.M)) == flags - {"-h", "--help"}


def test_the_routes() -> None:
    text = (DOCS / "rest-api.md").read_text()
    assert text == reference(text), "run python -m hypercontainer.daemon.reference"


def test_the_codes_of_errors() -> None:
    text = (DOCS / "rest-api.md").read_text()
    for error in (*_kinds(errors), *_kinds(failures)):
        assert f"`{error.code}` {error.status}" in " ".join(text.split()), error


def _kinds(module: ModuleType) -> list[type[HyperError]]:
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, HyperError)
    ]


def test_the_keys_of_a_pod() -> None:
    modules = sorted((DOCS.parent / "src/hypercontainer/pods").glob("spec*.py"))
    code = "".join(module.read_text() for module in modules)
    text = (DOCS / "pod-spec.md").read_text()
    for key in set(re.findall(r'node\.\w+\("(\w+)"', code)):
        assert re.search(rf"\b{key}\b", text) or key == "driver", key
