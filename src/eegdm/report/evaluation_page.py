"""The page of `eegdm evaluate`: what was compared, the numbers, and in words what may be concluded
from them and what not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from eegdm import artifacts
from eegdm.evaluation.study import (
    BAND_POWER,
    CLASSICAL,
    COVARIANCE,
    RANDOM,
    READOUTS,
    About,
    Evaluation,
    Networks,
    Results,
)
from eegdm.report.charts import learning_curve
from eegdm.report.pages import (
    Block,
    Picture,
    Points,
    Section,
    Table,
    Text,
    write_html,
    write_markdown,
)
from eegdm.report.write import plain

PAGE = "evaluation.html"
SCORES = {
    "auroc_within": "AUROC within people",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
}
"""How the scores are called on the page."""


def write_evaluation(evaluation: Evaluation) -> None:
    """Write the page, the same as Markdown and JSON beside it, and each table as CSV."""
    page, folder = evaluation.page, evaluation.page.parent
    artifacts.make_folder(folder, "--out")
    title = f"{evaluation.about.networks.model}: {' or '.join(evaluation.about.classes)}?"
    content = sections(evaluation)
    write_html(page, title, content)
    write_markdown(page.with_suffix(".md"), title, content)
    tables = evaluation.results._asdict()
    for name, table in tables.items():
        with artifacts.atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    records = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    found = {"about": asdict(evaluation.about), "results": records}
    artifacts.write_json(page.with_suffix(".json"), plain(found))


def read_evaluation(folder: Path) -> Evaluation | None:
    """Return what :func:`write_evaluation` wrote; None where it has not."""
    page = folder / PAGE
    path = page.with_suffix(".json")
    if not path.is_file():
        return None
    found = artifacts.read_json(path)
    networks = Networks(**found["about"]["networks"])
    tables = {name: pd.DataFrame(rows) for name, rows in found["results"].items()}
    for table in tables.values():
        if "n_people" in table:
            table["n_people"] = table.n_people.astype("Int64")
    return Evaluation(About(**found["about"] | {"networks": networks}), Results(**tables), page)


# ----------------------------------------------------------------------------------------- in words


def sections(evaluation: Evaluation) -> list[Section]:
    """Return the page's content."""
    about, results = evaluation.about, evaluation.results
    networks = about.networks
    other = [t for t in results.scores.treatment.unique() if t != about.treatment]
    main = _main_rows(networks)
    by_readout = [f"{name}: {way}" for way in READOUTS for name in (networks.model, RANDOM)]
    return [
        Section("What may be concluded", [Points(conclude(evaluation))]),
        Section("Scores", [_score_table(evaluation, about.treatment, main), *_curve(evaluation)]),
        Section("Differences", [_difference_table(evaluation, about.treatment, main)]),
        Section("Chance", [_chance_table(evaluation)]),
        Section("Identity", [_identity_table(evaluation)]),
        *(
            Section(
                f"Features {treatment}",
                [
                    _score_table(evaluation, treatment, main),
                    _difference_table(evaluation, treatment, main),
                ],
            )
            for treatment in other
        ),
        Section(
            "Ways to read the tokens",
            [
                Text(_READOUTS),
                _score_table(evaluation, about.treatment, by_readout),
                _difference_table(evaluation, about.treatment, by_readout),
            ],
        ),
        Section("What was done", [Points(_what_was_done(evaluation))]),
    ]


_READOUTS = (
    "Tokens can be read in several ways, which are shown here one by one. These rows explore; they"
    " are not a choice to make afterwards. For the rows of the model and of random weights above,"
    " people among those learned from, left out in turn, chose the way. Beside other features, it"
    " is the deeper half of the blocks, channel by channel."
)


def conclude(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what the intervals allow to say, and what they do not: a subject and its sentences."""
    about, networks = evaluation.about, evaluation.about.networks
    model, unit = networks.model, SCORES[about.headline[1]]
    tokens = f"tokens of {model}"
    said = [("The label", _about_chance(evaluation))]
    for second, subject, other in (
        (RANDOM, "Pretraining", "those of random weights"),
        (BAND_POWER, "Band power", "log band power"),
        (CLASSICAL, "The bar", f"{CLASSICAL} together"),
    ):
        found = _difference(evaluation, model, second)
        said.append((subject, _better_or_worse(tokens, other, found, unit)))
    said.append(("Added to the bar", _about_adding(evaluation)))
    main = _difference(evaluation, model, RANDOM)
    if main["low"] is not None:
        half = (main["high"] - main["low"]) / 2
        said.append(
            (
                "What cannot be seen",
                f"With {about.people} {_people(about)}, the interval of the difference between"
                f" {model} and random weights reaches about {half:.2f} to either side. Smaller"
                " differences cannot be seen here, and what is not seen need not be absent.",
            )
        )
    return said + list(_cautions(evaluation))


def _about_adding(evaluation: Evaluation) -> str:
    about, networks = evaluation.about, evaluation.about.networks
    tokens, unit = f"tokens of {networks.model}", SCORES[about.headline[1]]
    added = _difference(evaluation, networks.with_model, CLASSICAL)
    if _side(added) == 0:
        return (
            f"No claim that {tokens} add to {CLASSICAL}: {_signed(added)} {unit}, and the interval"
            " holds 0."
        )
    if _side(added) < 0:
        return f"With {tokens} beside it, {CLASSICAL} is worse: {_signed(added)} {unit}."
    beyond = _difference(evaluation, networks.with_model, networks.with_random)
    said = f"Tokens of {networks.model} add to {CLASSICAL}: {_signed(added)} {unit}."
    if _side(beyond) > 0:
        return f"{said} They add more than those of random weights: {_signed(beyond)}."
    return f"{said} No claim that they add more than those of random weights: {_signed(beyond)}."


def _about_chance(evaluation: Evaluation) -> str:
    about, chance = evaluation.about, evaluation.results.chance
    level, score = about.headline
    name = about.networks.trained[0]
    rows = chance[(chance.treatment == about.treatment) & (chance.features == name)]
    rows = rows[(rows.score == score) & (rows.level == level)]
    if rows.empty:
        return "Chance was not looked at."
    row = rows.iloc[0]
    found = f"{_number(row.value)} {SCORES[score]}"
    by_chance = (
        f"labels permuted {_where_permuted(about)} give {_number(row['mean'])}"
        f" {_brackets(_number(row.low), _number(row.high))}"
    )
    across = f"from one part of the {_people(about)} to the others"
    if row.p <= 0.05:
        return (
            f"Tokens of {name} carry the label {across}: {found}, while {by_chance}"
            f" (p = {row.p:.3f})."
        )
    return (
        f"No claim that tokens of {name} carry the label {across} at all: {found}, and"
        f" {by_chance} (p = {row.p:.2f})."
    )


def _where_permuted(about: About) -> str:
    if not about.people_of_one_class:
        return f"within {_people(about)}"
    if about.people_of_one_class == about.people:
        return f"among {_people(about)}"
    return f"within {_people(about)}, and among those of one label,"


def _better_or_worse(one: str, other: str, found: dict[str, Any], unit: str) -> str:
    if _side(found) == 0:
        return (
            f"No claim about {one} and {other}: the difference is {_signed(found)} {unit}, and the"
            " interval holds 0."
        )
    word = "better" if _side(found) > 0 else "worse"
    return f"{one[0].upper()}{one[1:]} are {word} than {other}: {_signed(found)} {unit}."


def _side(found: dict[str, Any]) -> int:
    """1 if the interval lies above 0, -1 if below, 0 if it holds 0 or there is none."""
    if found["low"] is None or found["high"] is None:
        return 0
    return int(found["low"] > 0) - int(found["high"] < 0)


def _difference(evaluation: Evaluation, first: str, second: str) -> dict[str, Any]:
    about, table = evaluation.about, evaluation.results.differences
    level, score = about.headline
    row = table[
        (table.treatment == about.treatment)
        & (table.features == first)
        & (table.minus == second)
        & (table.level == level)
        & (table.score == score)
        & table.n_people.isna()
    ].iloc[0]
    return {k: None if pd.isna(row[k]) else float(row[k]) for k in ("value", "low", "high")}


def _people(about: About) -> str:
    return "people" if about.by == "subject" else "recordings"


def _cautions(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """What a reader must know before believing a number."""
    about = evaluation.about
    if about.recordings_of_one_class == about.recordings:
        yield (
            "Labels of recordings",
            "Each recording has one label. Whatever changes from one recording to the next (time,"
            " electrodes, state) can pass for the label; differences between rows are safer than"
            " the scores themselves.",
        )
    if not about.people_of_one_class:
        yield (
            "Centring",
            f"The main tables centre features per {_one(about)}: they use the windows of the"
            f" {_people(about)} tested, not their labels. Whoever is new must be recorded under all"
            " labels before anything can be decided in this way.",
        )
    else:
        yield (
            "Centring",
            f"Features are not centred: {about.people_of_one_class} of {about.people}"
            f" {_people(about)} have one label only, and subtracting their mean would remove it.",
        )
    identity = evaluation.results.identity
    found = identity[identity.features == about.networks.model].iloc[0]
    if pd.notna(found.accuracy) and found.accuracy > 2 * found.chance:
        yield (
            "Identity",
            f"Tokens identify {_people(about)}: {_percent(found.accuracy)} of windows are nearest"
            f" to the mean of the right one (chance: {_percent(found.chance)}). A division of"
            f" windows that has one {_one(about)} on both sides would measure this instead of the"
            " label; no head here judges anybody whom it learned from.",
        )
    yield "Pretraining data", _about_overlap(about)


def _about_overlap(about: About) -> str:
    model = about.networks.model
    if about.overlap is None:
        says = f" It says of its data: {about.pretrained_on}" if about.pretrained_on else ""
        return (
            f"It is unknown whether {model} was pretrained on any of these people: it does not list"
            f" its people by name.{says}"
        )
    if about.overlap:
        return (
            f"{model} was pretrained on {len(about.overlap)} of these people"
            f" ({', '.join(about.overlap[:5])}): scores are not those of people it has never met."
        )
    return f"None of these people is among those whom {model} lists as its own."


def _one(about: About) -> str:
    return "person" if about.by == "subject" else "recording"


# ---------------------------------------------------------------------------------------- in tables


def _main_rows(networks: Networks) -> list[str]:
    return [
        networks.model,
        RANDOM,
        BAND_POWER,
        COVARIANCE,
        CLASSICAL,
        networks.with_model,
        networks.with_random,
    ]


def _columns(about: About) -> list[tuple[str, str, str]]:
    """Level, score and heading of each column of a table of scores."""
    found = [(*about.headline, SCORES[about.headline[1]])]
    person = _one(about)
    for level, score, heading in (
        ("window", "auroc", "AUROC, windows"),
        ("window", "balanced_accuracy", "balanced accuracy, windows"),
        ("person", "auroc", f"AUROC, means of a {person}"),
        ("person", "balanced_accuracy", f"balanced accuracy, means of a {person}"),
    ):
        if (level, score) != about.headline:
            found.append((level, score, heading))
    return found


def _score_table(evaluation: Evaluation, treatment: str, names: list[str]) -> Table:
    about, scores = evaluation.about, evaluation.results.scores
    columns = _columns(about)
    own = scores[(scores.treatment == treatment) & scores.n_people.isna()]
    own = own.set_index(["features", "level", "score"])
    return Table(
        ["features", *(heading for _, _, heading in columns)],
        [
            [name, *(_with_interval(own.loc[(name, level, score)]) for level, score, _ in columns)]
            for name in names
        ],
        f"Features {treatment}; 95 % of draws of {_people(about)} in brackets. A row of random"
        " weights is the mean of several networks.",
        frozenset(k for k, name in enumerate(names) if name == about.networks.model),
    )


def _difference_table(evaluation: Evaluation, treatment: str, names: list[str]) -> Table:
    about, table = evaluation.about, evaluation.results.differences
    level, score = about.headline
    own = table[(table.treatment == treatment) & (table.level == level) & (table.score == score)]
    own = own[own.features.isin(names)]
    cells: dict[tuple[str, str], list[str]] = {}
    for row in own.itertuples():
        cells.setdefault((row.features, row.minus), []).append(
            _signed({"value": row.value, "low": row.low, "high": row.high})
        )
    points = sorted(own.n_people.dropna().unique())
    return Table(
        ["difference", "all people", *(f"{n} people" for n in points)],
        [[f"{first} minus {second}", *values] for (first, second), values in cells.items()],
        f"{SCORES[score]}, features {treatment}, on the same draws of {_people(about)}: an interval"
        " that holds 0 allows no claim. Columns: how many people the heads learned from.",
        frozenset(k for k, pair in enumerate(cells) if pair == (about.networks.model, RANDOM)),
    )


def _chance_table(evaluation: Evaluation) -> Table:
    about, chance = evaluation.about, evaluation.results.chance
    level, score = about.headline
    own = chance[(chance.treatment == about.treatment) & (chance.score == score)]
    own = own[own.level == level]
    return Table(
        ["features", SCORES[score], "permuted labels", "p"],
        [
            [
                row.features,
                _number(row.value),
                f"{_number(row.mean)} {_brackets(_number(row.low), _number(row.high))}",
                f"{row.p:.3f}",
            ]
            for row in own.itertuples(index=False)
        ],
        f"Chance: the same heads and choices with labels permuted {_where_permuted(about)}; windows"
        " of one stretch keep a common label.",
    )


def _identity_table(evaluation: Evaluation) -> Table:
    return Table(
        ["features", "what is distinguished", "right", "chance", "of"],
        [
            [r.features, r.what, _percent(r.accuracy), _percent(r.chance), str(r.n)]
            for r in evaluation.results.identity.itertuples()
        ],
        "Identity: share of windows that are nearest to the right mean, features as they are.",
    )


def _curve(evaluation: Evaluation) -> list[Block]:
    """The score over the number of people to learn from."""
    about, scores = evaluation.about, evaluation.results.scores
    level, score = about.headline
    own = scores[
        (scores.treatment == about.treatment) & (scores.level == level) & (scores.score == score)
    ]
    if own.n_people.notna().sum() == 0:
        return []
    folds = evaluation.results.choices.fold.max() + 1
    everybody = round(about.people * (folds - 1) / folds)
    names = [about.networks.model, RANDOM, BAND_POWER, CLASSICAL, about.networks.with_model]
    lines = {}
    for name in names:
        of_row = own[own.features == name]
        of_row = of_row.assign(n_people=of_row.n_people.fillna(everybody).astype(int))
        lines[name] = of_row.sort_values("n_people")
    figure = learning_curve(lines, f"{_people(about)} to learn from", SCORES[score])
    return [
        Picture(
            figure,
            f"{SCORES[score]} of each kind of features over the number of people to learn from",
            "Bars: 95 % of draws of the people tested. Fewer people are drawn five times in each"
            " fold.",
        )
    ]


def _what_was_done(evaluation: Evaluation) -> list[tuple[str, str]]:
    about, results = evaluation.about, evaluation.results
    per_class = ", ".join(
        f"{name} {n} of {about.n_people[name]} {_people(about)}"
        for name, n in about.n_windows.items()
    )
    folds = results.choices.fold.max() + 1
    left_out = (
        f"; left out, as some recordings lack them: {', '.join(about.channels_left_out)}"
        if about.channels_left_out
        else ""
    )
    said = [
        ("Windows", f"{sum(about.n_windows.values())} of {about.window_s:g} s: {per_class}"),
        (
            "People",
            f"{about.people} in {about.recordings} recordings"
            + (
                f", recognised by {about.people_from}"
                if about.by == "subject"
                else ", each recording taken for somebody of its own"
            ),
        ),
        ("Channels", ", ".join(about.channels) + left_out),
        (
            "Folds",
            f"{folds} over {_people(about)}: each is tested once, by a head that learned from"
            " the others",
        ),
        (
            "Head",
            "ridge regression onto the classes, features standardised by the people to learn from;"
            " penalty and read-out are those with the least error on each of these people, left"
            " out in turn; classes count alike",
        ),
        (
            "Random weights",
            f"{len(about.networks.twins)} networks of the same build before any training, with the"
            " same choices; draws of people draw among them too",
        ),
        ("Features together", "each kind has the same weight, however many features it has"),
        (
            "Scores",
            f"AUROC within people is the mean of each {_one(about)}'s own, AUROC compares windows"
            f" of all {_people(about)}; means of a {_one(about)} are the mean decisions over all"
            " windows of a label",
        ),
        (
            "Intervals",
            f"95 % of 2,000 draws of {_people(about)} with replacement, the same for all rows; each"
            " holds for itself, and of twenty without any truth behind them one lies beside it",
        ),
    ]
    return said + [("Note", note) for note in about.notes]


# --------------------------------------------------------------------------------------- in numbers


def _number(value: float | None) -> str:
    return "not defined" if value is None or pd.isna(value) else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "not defined" if value is None or pd.isna(value) else f"{100 * value:.0f} %"


def _with_interval(row: pd.Series) -> str:
    if pd.isna(row.value):
        return "not defined"
    return f"{_number(row.value)} {_brackets(_number(row.low), _number(row.high))}"


def _signed(found: dict[str, Any]) -> str:
    if found["value"] is None or pd.isna(found["value"]):
        return "not defined"
    value, low, high = (f"{found[name]:+.3f}" for name in ("value", "low", "high"))
    return f"{value} {_brackets(low, high)}"


def _brackets(low: str, high: str) -> str:
    return f"[{low},\N{NO-BREAK SPACE}{high}]"
