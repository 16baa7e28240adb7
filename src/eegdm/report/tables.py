"""The scores of a report as tables for other programs: CSV, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from eegdm.artifacts import atomic_path
from eegdm.evaluation.event_scores import EVENT_SCORES
from eegdm.report.pages import Table, without_folders

Numbers = dict[str, Any]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "µ": r"\textmu{}",
    "–": "--",
    "²": r"\textsuperscript{2}",
    "[": "{[}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def write_csv(path: Path, numbers: Numbers) -> None:
    """Write a row for each run of ours and of each baseline, and rows of their mean and population
    standard deviation.

    Scores are x100 with two decimals, false alarms per 24 h as they are; what is not defined is an
    empty cell.
    """
    window_scores = list(numbers["summary"])
    with_events = any(run["events"] for run in numbers["runs"])
    columns = [
        "model",
        "run",
        *window_scores,
        *(f"event_{name}" for name in EVENT_SCORES if with_events),
    ]
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(_rows(numbers, window_scores))


def _rows(numbers: Numbers, names: list[str]) -> Iterator[dict[str, str]]:
    for run in numbers["runs"]:
        yield {
            "model": "EEGDM",
            "run": run["name"],
            **_cells(run["scores"], names),
            **_event_cells(run),
        }
    yield from _summary_rows("EEGDM", numbers["summary"], names)
    for run in numbers["pooled"]:
        yield {
            "model": "EEGDM",
            "run": run["name"],
            **_cells(run["scores"], names),
            **_event_cells(run),
        }
    for model, baseline in numbers["baselines"].items():
        for index, scores in enumerate(baseline["scores"]):
            run = baseline["names"][index] if baseline["names"] else str(index)
            yield {"model": model, "run": run, **_cells(scores, names)}
        yield from _summary_rows(model, baseline["summary"], names)
        if baseline["pooled"] is not None:
            means = _summary_rows(model, baseline["pooled"], names)
            yield next(means) | {"run": "all folds"}


def _event_cells(run: Numbers) -> dict[str, str]:
    events = run["events"] or {}
    return {
        f"event_{name}": _table_cell(events[name], name) for name in EVENT_SCORES if name in events
    }


def _summary_rows(model: str, summary: Numbers, names: list[str]) -> Iterator[dict[str, str]]:
    for what in ("mean", "std"):
        values = {name: summary.get(name, {}).get(what) for name in names}
        cells = {name: "" if v is None else f"{v:.2f}" for name, v in values.items()}
        yield {"model": model, "run": what, **cells}


def _cells(scores: Numbers, names: list[str]) -> dict[str, str]:
    return {name: _table_cell(scores.get(name), name) for name in names}


def _table_cell(value: float | None, name: str) -> str:
    return "" if value is None else f"{(1 if name == 'false_alarms_per_day' else 100) * value:.2f}"


def write_latex(path: Path, table: Table) -> None:
    """Write a table environment for a document that uses the package booktabs; rows that are ours
    are bold in their first cell.
    """
    columns = [_latex(name) for name in table.header]
    rows = [[_latex(cell) for cell in row] for row in table.rows]
    style = pd.DataFrame(rows, columns=columns).style.hide(axis="index")
    ours = (sorted(table.strong), columns[0])
    text = style.map(lambda _: "textbf: --rwrap", subset=ours).to_latex(
        hrules=True, caption=_latex(table.caption), column_format="l" + "r" * (len(columns) - 1)
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _latex(text: str) -> str:
    """Text as LaTeX shows it; a stranger's word is not a command.

    pandas' ``escape="latex"`` leaves out captions, and a ``[`` that a row may begin with, which
    LaTeX would read as the option of the line break before it.
    """
    flat = " ".join(without_folders(text).split())
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda match: _SPECIAL[match[0]], flat)
