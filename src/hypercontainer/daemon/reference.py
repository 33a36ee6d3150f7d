"""Makes the routes' tables of docs/rest-api.md: `python -m hypercontainer.daemon.reference`."""

from pathlib import Path

from .route_table import GROUPS
from .routing import JSON, Later, Route

TARGET = Path("docs/rest-api.md")
_BEGIN = "<!-- made by `python -m hypercontainer.daemon.reference`: edit the routes, not this -->"
_END = "<!-- end of what is made -->"


def tables() -> str:
    """The tables of all routes, a section for each group."""
    parts = []
    for title, about, routes in GROUPS:
        lines = [f"### {title}", ""]
        lines += [about, ""] if about else []
        lines += ["| route | what | parameters | answer |", "| --- | --- | --- | --- |"]
        lines += map(_line, routes)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(route: Route) -> str:
    params = [
        f"`{p.name}`" + (" (needed)" if p.required else "") + (f": {p.about}" if p.about else "")
        for p in route.params
    ]
    params += [f"header `{name}`" for name in route.headers]
    if route.body is not None:
        params.append(f"body: {route.body.about}")
    answer = route.answer if route.status == 200 else f"{route.status}: {route.answer}"
    if isinstance(route, Later):
        answer = "501: not supported yet"
    elif route.media != JSON:
        answer += f" (`{route.media}`)"
    cells = (f"`{route.method} {route.path}`", route.summary, "; ".join(params), answer)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def reference(text: str) -> str:
    """The document with its tables as the code has them."""
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return f"{head}{_BEGIN}\n\n{tables()}\n\n{_END}{tail}"


if __name__ == "__main__":
    TARGET.write_text(reference(TARGET.read_text()))
