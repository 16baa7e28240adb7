"""Run the topics, print their tables as they are found, and write results.md and results.json.

A topic with a ``BY_HAND`` is an experiment of hours or a page of its own: at full size only that
command runs it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType

import benchmarks
from benchmarks import machine, timing


def topics(only: str | None, smoke: bool) -> dict[str, ModuleType]:
    """Return the chosen topics by name; all that are timed in one run if none is chosen."""
    names = [
        found.name
        for found in pkgutil.iter_modules(benchmarks.__path__)
        if found.name != "__main__"
    ]
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    known = {name: module for name, module in modules.items() if hasattr(module, "run")}
    if not smoke:
        known = {name: module for name, module in known.items() if not hasattr(module, "BY_HAND")}
    if only is None:
        return known
    chosen = only.split(",")
    if unknown := [name for name in chosen if name not in known]:
        raise SystemExit(
            f"benchmarks: no topic {', '.join(unknown)}; choose from {', '.join(known)}"
        )
    return {name: known[name] for name in chosen}


def table(rows: list[dict[str, object]]) -> str:
    """Return rows as a Markdown table; a column that a row lacks stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        columns,
        ["---"] * len(columns),
        *([_cell(row.get(column)) for column in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def section(module: ModuleType, rows: list[dict[str, object]]) -> str:
    title, _, notes = (module.__doc__ or module.__name__).partition("\n")
    return "\n\n".join(
        part for part in (f"## {title.rstrip('.')}", notes.strip(), table(rows)) if part
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="tiny models, one repetition: does everything run and agree?",
    )
    parser.add_argument("--only", help="topics, separated by commas")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/benchmarks"),
        help="folder of results.md and results.json",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="cpu, or cuda: times by device events, memory as the allocator counts it",
    )
    arguments = parser.parse_args()
    timing.use(arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    facts = machine.facts()
    text = [
        f"# Benchmarks\n\nOf {facts['date']}: `python -m benchmarks {' '.join(sys.argv[1:])}`",
        "## Machine",
        table([facts]),
    ]
    found: dict[str, list[dict[str, object]]] = {}
    print("\n\n".join(text), flush=True)
    for name, module in topics(arguments.only, arguments.smoke).items():
        found[name] = module.run(arguments.smoke)
        text.append(section(module, found[name]))
        print(f"\n{text[-1]}", flush=True)
        if hasattr(module, "plot"):
            module.plot(found[name], arguments.out)
        (arguments.out / "results.md").write_text("\n\n".join(text) + "\n")
        (arguments.out / "results.json").write_text(
            json.dumps({"machine": facts, **found}, indent=1) + "\n"
        )
    print(
        f"\nThat took {time.perf_counter() - started:.0f} s; written to {arguments.out}", flush=True
    )


if __name__ == "__main__":
    main()
