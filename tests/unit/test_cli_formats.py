"""`--format` templates: fields, JSON, labels, tables, and what is refused."""

from typing import Any

import pytest

from hypercontainer.cli.arguments import UsageError
from hypercontainer.cli.formats import Template, print_by_template

ROW: dict[str, Any] = {
    "ID": "abc",
    "Names": "web",
    "State": {"Running": True, "Pid": 7, "Health": None},
    "_labels": {"tier": "front"},
}
TITLES = {"ID": "CONTAINER ID", "Names": "NAMES"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.ID}}: {{ .Names }}", "abc: web"),
        ("{{json .Names}}", '"web"'),
        ("{{.State.Pid}}/{{.State.Running}}", "7/true"),
        ("{{.State.Health}}", "<no value>"),
        ('{{.Label "tier"}}{{.Label "none"}}!', "front!"),
        (r"{{.ID}}\t{{.Names}}\n", "abc\tweb\n"),
        ("{{json .State}}", '{"Running": true, "Pid": 7, "Health": null}'),
    ],
)
def test_templates(text: str, shown: str) -> None:
    assert Template(text).render(ROW) == shown


def test_all_fields_as_json() -> None:
    assert Template("{{json .}}").render({"ID": "a", "_labels": {}}) == '{"ID": "a"}'


@pytest.mark.parametrize(
    "text",
    [
        "{{range .Names}}x{{end}}",
        "{{if .ID}}",
        "{{.ID | upper}}",
        "{{len .ID}}",
        "{{}}",
        "{{.Label}}",
        '{{.ID "x"}}',
        "plain",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        Template(text)


def test_unknown_fields_are_refused_before_anything_is_asked() -> None:
    def rows() -> list[dict[str, Any]]:
        raise AssertionError("asked")

    with pytest.raises(UsageError, match=r"no field .Nmaes: there are ID, Names"):
        print_by_template("{{.Nmaes}}", TITLES, rows)
    with pytest.raises(UsageError, match=r"there is no .State.Foo"):
        Template("{{.State.Foo}}").render(ROW)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    print_by_template(r"table {{.ID}}\t{{.Names}}", TITLES, lambda: [ROW])
    assert capsys.readouterr().out.splitlines() == ["CONTAINER ID   NAMES", "abc            web"]
