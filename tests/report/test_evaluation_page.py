"""The page of an evaluation claims what intervals allow and nothing else."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eegdm.evaluation.identity import WITHIN
from eegdm.evaluation.people_scores import LEVELS, SCORES
from eegdm.evaluation.study import (
    AS_THEY_ARE,
    BAND_POWER,
    CENTRED,
    CLASSICAL,
    COVARIANCE,
    RANDOM,
    Evaluation,
    Networks,
    Results,
    StudyFacts,
)
from eegdm.report.evaluation_page import read_evaluation, study_sections, write_evaluation
from eegdm.report.evaluation_words import conclude

NETWORKS = Networks("mini", ["mini"], ["mini at random, 0", "mini at random, 1"])
ABOUT = StudyFacts(
    networks=NETWORKS,
    by="subject",
    classes=["rest", "task"],
    n_windows={"rest": 120, "task": 60},
    n_people={"rest": 12, "task": 12},
    people=12,
    people_of_one_class=0,
    recordings=24,
    recordings_of_one_class=24,
    people_from="the table",
    window_s=5.0,
    channels=["FP1-F7", "F7-T3"],
    channels_left_out=["A1-T3"],
    overlap=None,
    pretrained_on="",
    notes=["/home/anna/b.edf: too short"],
    settings={"format": 1},
)
NOTHING = (0.01, -0.03, 0.05)
BETTER, WORSE = (0.06, 0.02, 0.10), (-0.06, -0.10, -0.02)


def evaluation(
    differences: dict[tuple[str, str], tuple[float, float, float]] | None = None,
    p: float = 0.005,
    path: Path = Path("evaluation.html"),
    **about: Any,
) -> Evaluation:
    """A study whose differences are as said, elsewhere nothing."""
    told, found = replace(ABOUT, **about), differences or {}
    treatments = [AS_THEY_ARE] if told.people_of_one_class else [AS_THEY_ARE, CENTRED]
    keys = [
        {"treatment": t, "level": level, "n_people": n, "score": score}
        for t in treatments
        for level in LEVELS
        for n in ((None, 2, 4) if level != "recording" else (None,))
        for score in SCORES
    ]
    interval = ("value", "low", "high")
    scores = [
        {**key, "features": row, **dict(zip(interval, (0.7, 0.6, 0.8), strict=True))}
        for key in keys
        for row in NETWORKS.rows()
    ]
    pairs = [
        {**key, "features": a, "minus": b}
        | dict(zip(interval, found.get((a, b), NOTHING), strict=True))
        for key in keys
        for a, b in NETWORKS.pairs()
    ]
    chance = [
        {"treatment": t, "features": row, "level": level, "score": score}
        | {"value": 0.7, "mean": 0.5, "low": 0.4, "high": 0.6, "p": p, "n": 200}
        for t in treatments
        for row in ("mini", BAND_POWER, COVARIANCE, CLASSICAL)
        for level in ("window", "person")
        for score in SCORES
    ]
    choices = [
        {"treatment": t, "features": "mini", "fold": k, "penalty": 1.0}
        for t in treatments
        for k in range(5)
    ]
    identity = [
        {"features": row, "what": WITHIN, "accuracy": 0.8, "chance": 1 / 12, "n": 12}
        for row in (BAND_POWER, COVARIANCE, "mini", RANDOM)
    ]
    tables = [pd.DataFrame(rows) for rows in (scores, pairs, chance, choices, identity)]
    for table in tables[:2]:
        table["n_people"] = table.n_people.astype("Int64")
    return Evaluation(told, Results(*tables), path)


def said(found: Evaluation) -> dict[str, str]:
    return dict(conclude(found))


def test_an_interval_above_zero_is_a_claim() -> None:
    sentences = said(evaluation({("mini", RANDOM): BETTER}))
    assert sentences["Pretraining"] == (
        "Tokens of mini are better than those of random weights: +0.060"
        " [+0.020,\N{NO-BREAK SPACE}+0.100] AUROC within people."
    )
    assert sentences["Band power"].startswith("No claim about tokens of mini and log band power")
    assert "about 0.04 to either side" in sentences["What cannot be seen"]


def test_an_interval_below_zero_is_said_too() -> None:
    sentences = said(evaluation({("mini", CLASSICAL): WORSE}))
    assert "are worse than band power + covariance together: -0.060" in sentences["The bar"]


@pytest.mark.parametrize(
    ("interval", "claims"),
    [(NOTHING, False), (BETTER, True), (WORSE, True), ((0.05, 0.0, 0.1), False)],
)
def test_an_interval_that_holds_zero_is_no_claim(
    interval: tuple[float, float, float], claims: bool
) -> None:
    sentence = said(evaluation({("mini", RANDOM): interval}))["Pretraining"]
    assert sentence.startswith("No claim") != claims
    assert ("the interval holds 0" in sentence) != claims


def test_what_random_weights_add_too_is_not_credited_to_pretraining() -> None:
    added = (NETWORKS.with_model, CLASSICAL)
    beyond = (NETWORKS.with_model, NETWORKS.with_random)
    sentence = said(evaluation({added: BETTER}))["Added to the bar"]
    assert "Tokens of mini add to band power + covariance" in sentence
    assert "No claim that they add more than those of random weights" in sentence
    sentence = said(evaluation({added: BETTER, beyond: BETTER}))["Added to the bar"]
    assert "They add more than those of random weights" in sentence
    assert said(evaluation())["Added to the bar"].startswith("No claim")
    assert "is worse" in said(evaluation({added: WORSE}))["Added to the bar"]


def test_chance_decides_about_the_label() -> None:
    assert said(evaluation(p=0.005))["The label"].startswith("Tokens of mini carry the label")
    assert said(evaluation(p=0.2))["The label"].startswith("No claim")


def test_cautions_follow_from_the_data() -> None:
    sentences = said(evaluation())
    assert "use the windows of the people tested" in sentences["Centring"]
    assert "can pass for the label" in sentences["Labels of recordings"]
    assert sentences["Pretraining data"].startswith("It is unknown")
    assert "Tokens identify people: 80 %" in sentences["Identity"]
    sentences = said(
        evaluation(people_of_one_class=12, recordings_of_one_class=20, overlap=["S01"])
    )
    assert "Features are not centred: 12 of 12 people have one label" in sentences["Centring"]
    assert "Labels of recordings" not in sentences
    assert "was pretrained on 1 of these people (S01)" in sentences["Pretraining data"]
    assert "AUROC." in sentences["Pretraining"] or "AUROC," in sentences["Pretraining"]
    sentences = said(evaluation(overlap=[]))
    assert sentences["Pretraining data"].startswith("None of these people")
    assert "names of subjects" in sentences["Pretraining data"]


def test_conclusions_rest_on_what_the_labels_allow() -> None:
    assert evaluation().about.headline == ("window", "auroc_within")
    assert evaluation().about.treatment == CENTRED
    single = evaluation(people_of_one_class=12).about
    assert single.headline == ("person", "auroc") and single.treatment == AS_THEY_ARE
    mixed = evaluation(people_of_one_class=3).about
    assert mixed.headline == ("window", "auroc") and mixed.treatment == AS_THEY_ARE


@pytest.mark.parametrize("one_class", [0, 12])
def test_files_say_the_same_and_are_read_again(tmp_path: Path, one_class: int) -> None:
    made = evaluation(path=tmp_path / "out" / "evaluation.html", people_of_one_class=one_class)
    write_evaluation(made)
    html = made.page.read_text(encoding="utf-8")
    markdown = made.page.with_suffix(".md").read_text(encoding="utf-8")
    for text in (html, markdown):
        assert "What may be concluded" in text and "mini minus random weights" in text
        assert "b.edf: too short" in text and "/home/anna" not in text
    assert "/home/anna" not in made.page.with_suffix(".json").read_text()
    with open(tmp_path / "out" / "differences.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(made.results.differences)
    again = read_evaluation(tmp_path / "out")
    assert again is not None and again.about == replace(made.about, notes=["b.edf: too short"])
    assert conclude(again) == conclude(made)
    for one, other in zip(made.results, again.results, strict=True):
        pd.testing.assert_frame_equal(
            one, other[list(one)], check_dtype=False, check_column_type=False
        )
    assert read_evaluation(tmp_path) is None


def test_every_section_has_content() -> None:
    titles = [section.title for section in study_sections(evaluation())]
    assert titles == [
        "What may be concluded",
        "Scores",
        "Differences",
        "Chance",
        "Identity",
        "Features as they are",
        "Other ways to read the tokens",
        "What was done",
    ]
    single = [section.title for section in study_sections(evaluation(people_of_one_class=12))]
    assert "Features as they are" not in single
