"""The page that `eegdm fit` writes: what to expect of a detector, beside heads on other
features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from eegdm.evaluation.cross_fitting import GROUP_LEVELS, RECORDINGS, Expectation
from eegdm.evaluation.people_scores import SCORE_WORDS
from eegdm.evaluation.study import BAND_POWER, RANDOM
from eegdm.report.evaluation_words import brackets, number, signed
from eegdm.report.pages import Element, Points, Section, Table, Text, write_html

TITLE = "What to expect of this detector"
NO_INTERVAL = "too few"


def write_expectation(path: Path, found: Expectation, rule: str, facts: Mapping[str, Any]) -> None:
    """Write a self-contained HTML page.

    Args:
        rule: what makes events, or decisions, of the detector's probabilities.
        facts: those of the model's card: data and recipe.
    """
    own = found.scores.features.iloc[0]
    sections = [
        Section("In words", [Points(_in_words(found, rule))]),
        Section("Scores", [_score_table(found), *_differences(found, own)]),
        Section("Each label", [_recall_table(found)]),
        Section("How it was made", [Points(_how(found, facts))]),
    ]
    write_html(path, TITLE, sections)


def _in_words(found: Expectation, rule: str) -> list[tuple[str, str]]:
    compared = found.comparisons()
    said = [("This detector", f"{found.sentence()}."), ("Its rule", f"{rule}.")]
    said += [("Beside it", f"{sentence}.") for sentence in compared]
    if BAND_POWER in set(found.differences.minus):
        said.append(
            (
                "What follows",
                "Where band power is not shown to be worse, nothing shows that the model's tokens"
                f" are needed. Where {RANDOM} are not shown to be worse, nothing shows that its"
                " pretraining is.",
            )
        )
    level = {
        "people": "These are scores for people of whom nothing was learned.",
        "recordings": (
            "Too few people hold every label, so recordings were left out in turn. Expect less of"
            " people of whom nothing was learned."
        ),
        "marks": (
            "Too few recordings hold every label, so marks were left out in turn, while others of"
            " the same recording were learned from. Expect less of other recordings."
        ),
    }
    said.append(("For whom", level[found.across]))
    return said


def _score_table(found: Expectation) -> Table:
    rows = []
    for name, own in found.scores.groupby("features", sort=False):
        cells = [_with_interval(row) for row in own.itertuples()]
        rows.append([str(name), *cells])
    kinds = found.scores.score.unique()
    return Table(
        ["features", *(SCORE_WORDS[kind] for kind in kinds)], rows, _caption(found), frozenset({0})
    )


def _differences(found: Expectation, own: str) -> list[Element]:
    if found.differences.empty:
        return [Text("Nothing was compared with it.")]
    rows = []
    for name, others in found.differences.groupby("minus", sort=False):
        cells = [
            f"{row.value:+.3f} ({NO_INTERVAL})" if pd.isna(row.low) else signed(row._asdict())
            for row in others.itertuples()
        ]
        rows.append([f"{own} minus {name}", *cells])
    kinds = found.differences.score.unique()
    return [
        Table(
            ["difference", *(SCORE_WORDS[kind] for kind in kinds)],
            rows,
            "On the same draws. An interval that holds 0 does not say which is better.",
        )
    ]


def _caption(found: Expectation) -> str:
    unit = "whole recordings" if found.unit == RECORDINGS else "windows"
    return (
        f"Scores of {unit} by heads that knew nothing of their"
        f" {dict(zip(GROUP_LEVELS, ('person', 'recording', 'mark'), strict=True))[found.across]}"
        f" ({found.n_groups} {found.across}). In brackets 95 % intervals over {found.across}. All"
        " rows have the same kind of head; which blocks and channels it reads and its penalty were"
        " chosen for each row anew, within what it learned from."
    )


def _recall_table(found: Expectation) -> Table:
    rows = [
        [name, str(found.n_units[name]), f"{100 * share:.0f} %"]
        for name, share in found.recall.items()
    ]
    return Table(["label", f"{found.unit} judged", "of these decided rightly"], rows)


def _with_interval(row: Any) -> str:
    if pd.isna(row.low):
        return f"{number(row.value)} ({NO_INTERVAL})"
    return f"{number(row.value)} {brackets(number(row.low), number(row.high))}"


def _how(found: Expectation, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, recipe = facts["data"], facts["recipe"]
    windows = ", ".join(f"{name} {n}" for name, n in data["windows"].items())
    said = [
        (
            "Learned from",
            f"{data['recordings']} recordings of {data['people']}"
            f" {'person' if data['people'] == 1 else 'people'}; windows: {windows}",
        ),
        (
            "Head",
            f"linear; blocks: {recipe['blocks']}; channels: {recipe['channels']}; penalty"
            f" {recipe['penalty']:g}, chosen with {recipe['chosen over']}",
        ),
    ]
    if "centred" in recipe:
        said.append(("Tokens", f"centred {recipe['centred']}"))
    return said
