"""What may be concluded from an evaluation and what not: words that follow from its intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from eegdm.evaluation.people_scores import SCORE_WORDS
from eegdm.evaluation.study import BAND_POWER, CLASSICAL, RANDOM, Evaluation, StudyFacts


def conclude(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what the intervals allow to say, and what they do not: a subject and its sentences."""
    about, networks = evaluation.about, evaluation.about.networks
    model, unit = networks.model, SCORE_WORDS[about.headline[1]]
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
                f"With {about.people} {people(about)}, the interval of the difference between"
                f" {model} and random weights reaches about {half:.2f} to either side. Smaller"
                " differences cannot be seen here, and what is not seen need not be absent.",
            )
        )
    return said + list(_cautions(evaluation))


def _about_adding(evaluation: Evaluation) -> str:
    about, networks = evaluation.about, evaluation.about.networks
    tokens, unit = f"tokens of {networks.model}", SCORE_WORDS[about.headline[1]]
    added = _difference(evaluation, networks.with_model, CLASSICAL)
    if _side(added) == 0:
        return (
            f"No claim that {tokens} add to {CLASSICAL}: {signed(added)} {unit}, and the interval"
            " holds 0."
        )
    if _side(added) < 0:
        return f"With {tokens} beside it, {CLASSICAL} is worse: {signed(added)} {unit}."
    beyond = _difference(evaluation, networks.with_model, networks.with_random)
    said = f"Tokens of {networks.model} add to {CLASSICAL}: {signed(added)} {unit}."
    if _side(beyond) > 0:
        return f"{said} They add more than those of random weights: {signed(beyond)}."
    return f"{said} No claim that they add more than those of random weights: {signed(beyond)}."


def _about_chance(evaluation: Evaluation) -> str:
    about, chance = evaluation.about, evaluation.results.chance
    level, score = about.headline
    name = about.networks.trained[0]
    rows = chance[(chance.treatment == about.treatment) & (chance.features == name)]
    rows = rows[(rows.score == score) & (rows.level == level)]
    if rows.empty:
        return "Chance was not looked at."
    row = rows.iloc[0]
    found = f"{number(row.value)} {SCORE_WORDS[score]}"
    by_chance = (
        f"labels permuted {where_permuted(about)} give {number(row['mean'])}"
        f" {brackets(number(row.low), number(row.high))}"
    )
    across = f"from one part of the {people(about)} to the others"
    if row.p <= 0.05:
        return (
            f"Tokens of {name} carry the label {across}: {found}, while {by_chance}"
            f" (p = {row.p:.3f})."
        )
    return (
        f"No claim that tokens of {name} carry the label {across} at all: {found}, and"
        f" {by_chance} (p = {row.p:.2f})."
    )


def where_permuted(about: StudyFacts) -> str:
    """Return between whom labels are exchanged."""
    if not about.people_of_one_class:
        return f"within {people(about)}"
    if about.people_of_one_class == about.people:
        return f"among {people(about)}"
    return f"within {people(about)}, and among those of one label,"


def _better_or_worse(one: str, other: str, found: dict[str, Any], unit: str) -> str:
    if _side(found) == 0:
        return (
            f"No claim about {one} and {other}: the difference is {signed(found)} {unit}, and the"
            " interval holds 0."
        )
    word = "better" if _side(found) > 0 else "worse"
    return f"{one[0].upper()}{one[1:]} are {word} than {other}: {signed(found)} {unit}."


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


def people(about: StudyFacts) -> str:
    """Return what is divided, in the plural."""
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
            f"The main tables centre features per {one(about)}: they use the windows of the"
            f" {people(about)} tested, not their labels. Whoever is new must be recorded under all"
            " labels before anything can be decided in this way.",
        )
    else:
        yield (
            "Centring",
            f"Features are not centred: {about.people_of_one_class} of {about.people}"
            f" {people(about)} have one label only, and subtracting their mean would remove it.",
        )
    identity = evaluation.results.identity
    found = identity[identity.features == about.networks.model].iloc[0]
    if pd.notna(found.accuracy) and found.accuracy > 2 * found.chance:
        yield (
            "Identity",
            f"Tokens identify {people(about)}: {percent(found.accuracy)} of windows are nearest"
            f" to the mean of the right one (chance: {percent(found.chance)}). A division of"
            f" windows that has one {one(about)} on both sides would measure this instead of the"
            " label; no head here judges anybody whom it learned from.",
        )
    yield "Pretraining data", _about_overlap(about)


def _about_overlap(about: StudyFacts) -> str:
    model = about.networks.model
    if about.overlap is None:
        says = f" It says of its data: {about.pretrained_on}" if about.pretrained_on else ""
        return (
            f"It is unknown whether {model} was pretrained on any of these people: it does not list"
            f" its people.{says}"
        )
    if about.overlap:
        return (
            f"{model} was pretrained on {len(about.overlap)} of these people"
            f" ({', '.join(about.overlap[:5])}): scores are not those of people it has never met."
            " This compares names of subjects: a name may be somebody else's in another corpus."
        )
    return (
        f"None of these people is among those whom {model} lists as its own. This compares names of"
        " subjects: somebody who has another name in another folder is not recognised."
    )


def one(about: StudyFacts) -> str:
    """Return what is divided, in the singular."""
    return "person" if about.by == "subject" else "recording"


# --------------------------------------------------------------------------------------- in numbers


def number(value: float | None) -> str:
    """Return a score with three decimals."""
    return "not defined" if value is None or pd.isna(value) else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage."""
    return "not defined" if value is None or pd.isna(value) else f"{100 * value:.0f} %"


def signed(found: dict[str, Any]) -> str:
    """Return a difference with its interval."""
    if found["value"] is None or pd.isna(found["value"]):
        return "not defined"
    value, low, high = (f"{found[name]:+.3f}" for name in ("value", "low", "high"))
    return f"{value} {brackets(low, high)}"


def brackets(low: str, high: str) -> str:
    """Return an interval that is not broken over lines."""
    return f"[{low},\N{NO-BREAK SPACE}{high}]"
