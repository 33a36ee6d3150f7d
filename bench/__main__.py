"""Runs the measurements, prints one table, and writes `bench/out/NAME.json`."""

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import machine
from .results import Measure, Result

OUT = Path(__file__).with_name("out")


def names() -> list[str]:
    """The measurements there are: the modules `measure_NAME`."""
    return sorted(
        path.stem.removeprefix("measure_") for path in Path(__file__).parent.glob("measure_*.py")
    )


def run(name: str, description: dict[str, str | int | float]) -> list[Result]:
    """The results of one measurement, which are also written to its file."""
    measure: Measure = importlib.import_module(f"bench.measure_{name}").measure
    results = []
    for result in measure():
        print(f"  {result.name}: {result.value:.4g} {result.unit}", file=sys.stderr, flush=True)
        results.append(result)
    OUT.mkdir(exist_ok=True)
    content = {
        "machine": description,
        **{result.key: result.value for result in results if result.key},
        "results": [
            {
                "name": result.name,
                "unit": result.unit,
                "median": result.value if result.samples else None,
                "samples": result.samples,
                "at_most": result.at_most,
                "at_least": result.at_least,
                "held": result.held,
                "note": result.note,
            }
            for result in results
        ],
    }
    (OUT / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return results


def table(results: list[Result]) -> Table:
    """All results, one a line."""
    grid = Table(box=None, pad_edge=False)
    for heading in ("measurement", "median", "unit", "min", "max", "n", "bound", "", "note"):
        grid.add_column(heading, justify="right" if heading in ("median", "min", "max") else "left")
    for result in results:
        verdict = "" if not result.bound else "ok" if result.held else "MISSED"
        figures = (result.value, min(result.samples), max(result.samples)) if result.samples else ()
        median, low, high = (f"{figure:.4g}" for figure in figures) if figures else "---"
        grid.add_row(
            *(result.name, median, result.unit, low, high, str(len(result.samples))),
            *(result.bound, verdict, result.note),
        )
    return grid


def main() -> int:
    """Exit code 1 when a bound was missed."""
    parser = argparse.ArgumentParser(prog="bench", description="measure HyperContainer")
    parser.add_argument("name", nargs="*", help=f"which to run: {', '.join(names())}; all if none")
    chosen: list[str] = parser.parse_args().name or names()
    if unknown := set(chosen) - set(names()):
        parser.error(f"no measurement {', '.join(sorted(unknown))}: there are {', '.join(names())}")
    description = machine.describe()
    results = []
    for name in chosen:
        print(f"{name}:", file=sys.stderr, flush=True)
        results += run(name, description)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table(results))
    console.print("; ".join(f"{key} {value}" for key, value in description.items()), style="dim")
    return 0 if all(result.held for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
