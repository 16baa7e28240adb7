"""The page of `eegdm evaluate`: what was compared, the numbers, and in words what may be concluded
from them and what not.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from eegdm import artifacts
from eegdm.evaluation.people_scores import SCORE_WORDS, widening
from eegdm.evaluation.study import (
    BAND_POWER,
    CLASSICAL,
    COVARIANCE,
    OTHERS,
    RANDOM,
    Evaluation,
    Networks,
    Results,
    StudyFacts,
)
from eegdm.report.charts import learning_curve
from eegdm.report.evaluation_words import (
    brackets,
    conclude,
    number,
    one,
    people,
    percent,
    signed,
    where_permuted,
)
from eegdm.report.pages import (
    Element,
    Picture,
    Points,
    Section,
    Table,
    Text,
    write_html,
    write_markdown,
)
from eegdm.report.write import as_json

PAGE = "evaluation.html"


def write_evaluation(evaluation: Evaluation) -> None:
    """Write the page, the same as Markdown and JSON beside it, and each table as CSV."""
    page, folder = evaluation.page, evaluation.page.parent
    artifacts.make_folder(folder, "--out")
    title = f"{evaluation.about.networks.model}: {' or '.join(evaluation.about.classes)}?"
    content = study_sections(evaluation)
    write_html(page, title, content)
    write_markdown(page.with_suffix(".md"), title, content)
    tables = evaluation.results._asdict()
    for name, table in tables.items():
        with artifacts.atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    records = {
        name: table.astype(object).where(table.notna(), None).to_dict("records")
        for name, table in tables.items()
    }
    found = {"about": asdict(evaluation.about), "results": records}
    artifacts.write_json(page.with_suffix(".json"), as_json(found))


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
    return Evaluation(
        StudyFacts(**found["about"] | {"networks": networks}), Results(**tables), page
    )


# ----------------------------------------------------------------------------------------- in words


def study_sections(evaluation: Evaluation) -> list[Section]:
    """Return the page's content."""
    about, results = evaluation.about, evaluation.results
    networks = about.networks
    other = [t for t in results.scores.treatment.unique() if t != about.treatment]
    main = _main_rows(networks)
    by_readout = [f"{name}: {way}" for way in OTHERS for name in (networks.model, RANDOM)]
    return [
        Section("What may be concluded", [Points(conclude(evaluation))]),
        Section(
            "Scores", [_score_table(evaluation, about.treatment, main), *_people_curve(evaluation)]
        ),
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
            "Other ways to read the tokens",
            [
                Text(_READOUTS),
                _score_table(evaluation, about.treatment, by_readout),
                _difference_table(evaluation, about.treatment, by_readout),
            ],
        ),
        Section("What was done", [Points(what_was_done(evaluation))]),
    ]


_READOUTS = (
    "Everywhere else, tokens are those of the deeper half of the blocks, channel by channel. They"
    " can be read in other ways, which are shown here. These rows explore: the best of them, picked"
    " afterwards, is not a result."
)


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


def _table_columns(about: StudyFacts) -> list[tuple[str, str, str]]:
    """Level, score and heading of each column of a table of scores."""
    found = [(*about.headline, SCORE_WORDS[about.headline[1]])]
    person = one(about)
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
    columns = _table_columns(about)
    own = scores[(scores.treatment == treatment) & scores.n_people.isna()]
    own = own.set_index(["features", "level", "score"])
    return Table(
        ["features", *(heading for _, _, heading in columns)],
        [
            [name, *(_with_interval(own.loc[(name, level, score)]) for level, score, _ in columns)]
            for name in names
        ],
        f"Features {treatment}; 95 % intervals over {people(about)} in brackets. A row of random"
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
            signed({"value": row.value, "low": row.low, "high": row.high})
        )
    points = sorted(own.n_people.dropna().unique())
    return Table(
        ["difference", "all people", *(f"{n} people" for n in points)],
        [[f"{first} minus {second}", *values] for (first, second), values in cells.items()],
        f"{SCORE_WORDS[score]}, features {treatment}, on the same draws of {people(about)}:"
        " an interval"
        " that holds 0 allows no claim. Columns: how many people the heads learned from.",
        frozenset(k for k, pair in enumerate(cells) if pair == (about.networks.model, RANDOM)),
    )


def _chance_table(evaluation: Evaluation) -> Table:
    about, chance = evaluation.about, evaluation.results.chance
    level, score = about.headline
    own = chance[(chance.treatment == about.treatment) & (chance.score == score)]
    own = own[own.level == level]
    return Table(
        ["features", SCORE_WORDS[score], "permuted labels", "p"],
        [
            [
                row.features,
                number(row.value),
                f"{number(row.mean)} {brackets(number(row.low), number(row.high))}",
                f"{row.p:.3f}",
            ]
            for row in own.itertuples(index=False)
        ],
        f"Chance: the same heads with labels permuted {where_permuted(about)}; windows"
        " of one stretch keep a common label.",
    )


def _identity_table(evaluation: Evaluation) -> Table:
    return Table(
        ["features", "what is distinguished", "right", "chance", "of"],
        [
            [r.features, r.what, percent(r.accuracy), percent(r.chance), str(r.n)]
            for r in evaluation.results.identity.itertuples()
        ],
        "Identity: share of windows that are nearest to the right mean, features as they are.",
    )


def _people_curve(evaluation: Evaluation) -> list[Element]:
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
    figure = learning_curve(lines, f"{people(about)} to learn from", SCORE_WORDS[score])
    return [
        Picture(
            figure,
            f"{SCORE_WORDS[score]} of each kind of features over the number of people to learn"
            " from",
            "Bars: 95 % intervals. Fewer people to learn from are drawn five times in each fold.",
        )
    ]


def what_was_done(evaluation: Evaluation) -> list[tuple[str, str]]:
    about, results = evaluation.about, evaluation.results
    per_class = ", ".join(
        f"{name} {n} of {about.n_people[name]} {people(about)}"
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
            f"{folds} over {people(about)}: each is tested once, by a head that learned from"
            " the others",
        ),
        (
            "Head",
            "ridge regression onto the classes, features standardised by the people to learn from;"
            " its penalty is the one with the least error on each of these people, left out in"
            " turn; classes count alike",
        ),
        (
            "Random weights",
            f"{len(about.networks.twins)} networks of the same build before any training; draws of"
            " people draw among them too",
        ),
        ("Features together", "each kind has the same weight, however many features it has"),
        (
            "Scores",
            f"AUROC within people is the mean of each {one(about)}'s own, AUROC compares windows"
            f" of all {people(about)}; means of a {one(about)} are the mean decisions over all"
            " windows of a label",
        ),
        (
            "Intervals",
            f"95 % of 2,000 draws of {people(about)} with replacement, the same for all rows,"
            f" widened by {widening(folds):.2f} because heads share those they learned from; each"
            " holds for itself, and of twenty without any truth behind them one lies beside it",
        ),
    ]
    return said + [("Note", note) for note in about.notes]


def _with_interval(row: pd.Series) -> str:
    if pd.isna(row.value):
        return "not defined"
    return f"{number(row.value)} {brackets(number(row.low), number(row.high))}"
