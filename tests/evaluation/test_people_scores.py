"""Scores and intervals from counts equal those computed window by window."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from eegdm.evaluation.across_people import Decisions, Kind, LabelledWindows, decide, permuted_labels
from eegdm.evaluation.metrics import bootstrap, scores
from eegdm.evaluation.people_scores import (
    Units,
    count_people,
    difference_table,
    drawn_scores,
    draws,
    interval,
    score,
    score_table,
    units_of,
    widening,
)


def windows_like(units: Units) -> LabelledWindows:
    """Windows whose people hold several classes."""
    person = np.repeat(np.arange(units.person.max() + 1), 2)
    return LabelledWindows(np.tile([0, 1], len(person) // 2), person, person, ["a", "b"])


def table(n_classes: int, seed: int = 0) -> tuple[Units, np.ndarray]:
    """Units of 7 people with ties among their decisions; person 0 holds one class."""
    rng = np.random.default_rng(seed)
    person = np.sort(rng.integers(7, size=120))
    label = np.where(person == 0, 0, rng.integers(n_classes, size=120))
    decision = np.round(rng.normal(size=(120, n_classes)) + np.eye(n_classes)[label], 1)
    if n_classes == 2:
        decision[:, 0] = -decision[:, 1]
    return Units(label, person, np.arange(120)), decision


def copied(units: Units, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a draw, and which copy of which person each belongs to."""
    rows, copy, n = [], [], 0
    for who, times in enumerate(weight.astype(int)):
        for _ in range(times):
            own = np.flatnonzero(units.person == who)
            rows.append(own)
            copy.append(np.full(len(own), n))
            n += 1
    return np.concatenate(rows), np.concatenate(copy)


def slow_auroc(units: Units, decision: np.ndarray, weight: np.ndarray) -> float:
    """Pair by pair, without pairs of two copies of one person."""
    rows, copy = copied(units, weight)
    found = []
    for k in range(decision.shape[1]):
        value = decision[:, 1] - decision[:, 0] if decision.shape[1] == 2 else decision[:, k]
        label, person = units.label[rows] == (1 if decision.shape[1] == 2 else k), units.person
        above, n = 0.0, 0
        for i in np.flatnonzero(label):
            for j in np.flatnonzero(~label):
                if person[rows[i]] == person[rows[j]] and copy[i] != copy[j]:
                    continue
                a, b = value[rows[i]], value[rows[j]]
                above += (a > b) + 0.5 * (a == b)
                n += 1
        found.append(above / n)
    return float(np.mean(found))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_of_everybody_are_those_of_scikit_learn(n_classes: int) -> None:
    units, decision = table(n_classes)
    found = score(count_people(units, decision), np.ones((1, 7)))
    if n_classes == 2:
        expected = roc_auc_score(units.label, decision[:, 1] - decision[:, 0])
    else:
        each = [roc_auc_score(units.label == k, decision[:, k]) for k in range(3)]
        expected = np.mean(each)
    assert found["auroc"][0] == pytest.approx(expected, abs=1e-12)
    right = balanced_accuracy_score(units.label, decision.argmax(axis=1))
    assert found["balanced_accuracy"][0] == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_of_a_draw_are_those_of_its_rows(n_classes: int) -> None:
    units, decision = table(n_classes)
    weight = draws(windows_like(units), 12, seed=1).weight
    found = score(count_people(units, decision), weight)
    for k in range(len(weight)):
        rows, _ = copied(units, weight[k])
        expected = balanced_accuracy_score(units.label[rows], decision[rows].argmax(axis=1))
        assert found["balanced_accuracy"][k] == pytest.approx(expected, abs=1e-12)
        assert found["auroc"][k] == pytest.approx(slow_auroc(units, decision, weight[k]), abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_within_people_are_their_means(n_classes: int) -> None:
    units, decision = table(n_classes)
    weight = draws(windows_like(units), 5).weight
    found = score(count_people(units, decision), weight)
    auroc, accuracy = np.full((2, 7), np.nan)
    for who in range(1, 7):  # person 0 holds one class
        own = units.person == who
        label, values = units.label[own], decision[own]
        ranked = [1] if n_classes == 2 else np.unique(label)  # one person lacks a class
        auroc[who] = np.mean([roc_auc_score(label == k, values[:, k]) for k in ranked])
        accuracy[who] = balanced_accuracy_score(label, values.argmax(axis=1))
    for name, own in (("auroc_within", auroc), ("balanced_accuracy_within", accuracy)):
        for draw, got in zip(weight, found[name], strict=True):
            assert got == pytest.approx(np.average(own[1:], weights=draw[1:]), abs=1e-12)


def test_people_of_one_class_are_drawn_within_their_class() -> None:
    person = np.repeat(np.arange(10), 3)
    windows = LabelledWindows((person < 4).astype(int), person, person, ["a", "b"])
    drawn = draws(windows, 50).weight
    assert (drawn[:, :4].sum(axis=1) == 4).all() and (drawn[:, 4:].sum(axis=1) == 6).all()
    assert len({tuple(row) for row in drawn}) > 45
    units, own = units_of(windows, "person"), np.random.default_rng(0).normal(size=(10, 2))
    found = score(count_people(units, own), drawn)
    assert np.isfinite(found["auroc"]).all() and np.isnan(found["auroc_within"]).all()


def test_intervals_are_those_of_the_general_bootstrap() -> None:
    units, decision = table(2)
    logits = np.stack([np.zeros(120), decision[:, 1] - decision[:, 0]], axis=1)
    drawn = draws(windows_like(units), 200, seed=3)
    expected = bootstrap((units.label, logits), units.person, scores, n=200, seed=[3, 0])[
        "balanced_accuracy"
    ]
    found = interval(score(count_people(units, decision), drawn.weight)["balanced_accuracy"])
    assert found == pytest.approx({k: expected[k] for k in ("value", "low", "high")}, abs=1e-12)


def test_a_draw_of_one_class_has_no_score() -> None:
    units, decision = table(2)
    only_first = np.eye(7)[:1] * 7
    found = score(count_people(units, decision), only_first)
    assert np.isnan(found["auroc"]).all() and np.isnan(found["balanced_accuracy"]).all()


def test_units_are_means_over_windows_of_one_label() -> None:
    person = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    recording = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    label = np.array([0, 1, 1, 1, 0, 0, 1, 0])
    windows = LabelledWindows.__new__(LabelledWindows)
    for name, value in (("label", label), ("person", person), ("recording", recording)):
        object.__setattr__(windows, name, value)
    values = np.arange(16.0).reshape(8, 2)
    for level, groups in (
        ("window", [[k] for k in range(8)]),
        ("recording", [[0], [1], [2, 3], [4, 5, 7], [6]]),
        ("person", [[0], [1, 2, 3], [4, 5, 7], [6]]),
    ):
        units = units_of(windows, level)
        expected = np.stack([values[rows].mean(axis=0) for rows in groups])
        np.testing.assert_allclose(units.mean(values), expected)
        assert units.label.tolist() == [label[rows[0]] for rows in groups]
        assert units.person.tolist() == [person[rows[0]] for rows in groups]


def paired() -> tuple[LabelledWindows, dict[str, Decisions]]:
    """Decisions with and without the label in them, for 30 people."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 10)
    label = np.tile(np.repeat([0, 1], 5), 30)
    windows = LabelledWindows(label, person, person, ["a", "b"])

    def decided(strength: float) -> Decisions:
        value = rng.normal(size=300) + strength * label + rng.normal(size=30)[person]
        values = np.stack([-value, value], axis=1)
        return Decisions(values, np.empty((0, 300, 2)), {2: np.stack([values, values])}, [])

    strengths = {"good": 1.5, "twin 0": 0.0, "twin 1": 0.2, "twin 2": 0.1}
    return windows, {name: decided(strength) for name, strength in strengths.items()}


def test_rows_of_several_are_their_mean_and_differences_are_paired() -> None:
    windows, decided = paired()
    rows = {"good": ["good"], "twins": ["twin 0", "twin 1", "twin 2"]}
    scored = drawn_scores(windows, decided, rows, draws(windows, 500))
    found = score_table(scored, 5).query("level == 'window' and score == 'auroc'")
    alone = [roc_auc_score(windows.label, decided[name].values[:, 1]) for name in rows["twins"]]
    of_row = found[found.n_people.isna()].set_index("features").value
    assert of_row["twins"] == pytest.approx(np.mean(alone))
    difference = difference_table(scored, [("good", "twins")], 5)
    main = difference.query("level == 'window' and score == 'auroc'")
    assert main.value.iloc[0] == pytest.approx(of_row["good"] - of_row["twins"])
    assert main.low.iloc[0] > 0
    assert set(main.n_people.dropna()) == {2}
    same = difference_table(scored, [("good", "good")], 5)
    assert (same[["value", "low", "high"]] == 0).all(axis=None)


def test_intervals_are_widened_about_their_value_within_bounds() -> None:
    values = np.concatenate([[0.6], np.linspace(0.5, 0.8, 1001)])
    plain, wide = interval(values), interval(values, 1.5)
    assert plain == pytest.approx({"value": 0.6, "low": 0.5075, "high": 0.7925})
    assert wide["low"] == pytest.approx(0.6 - 1.5 * 0.0925)
    assert wide["high"] == pytest.approx(0.6 + 1.5 * 0.1925)
    assert interval(values, 3.0, (0.0, 1.0))["high"] == 1.0
    assert widening(5) == pytest.approx(1.5)


@pytest.mark.ci
def test_intervals_of_heads_cover_chance_and_no_difference() -> None:
    """60 experiments without anything to learn, with the heads that an evaluation fits. Draws of
    the people tested alone miss the truth far more often than in 5 % of them.
    """
    n_people, n_each, inside, plain = 24, 12, [], []
    person = np.repeat(np.arange(n_people), n_each)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        label = np.tile(np.repeat([0, 1], n_each // 2), n_people)
        label ^= (rng.random(n_people) < 0.5).astype(int)[person]
        windows = LabelledWindows(label, person, 2 * person + label, ["a", "b"])
        features = {
            name: rng.normal(size=(len(person), n))
            + rng.normal(size=(2 * n_people, n))[2 * person + label] / 2
            for name, n in (("x", 12), ("y", 100))
        }
        kinds = [Kind(name, (name,)) for name in features]
        decided = decide(features, windows, kinds, permuted_labels(windows, 0), seed)
        scored = drawn_scores(windows, decided, {"x": ["x"], "y": ["y"]}, draws(windows, 300, seed))
        x, y = (scored[name, "window", None, "auroc_within"] for name in ("x", "y"))
        for values, truth in ((x, 0.5), (y, 0.5), (x - y, 0.0)):
            for found, wider in ((inside, widening(5)), (plain, 1.0)):
                ends = interval(values, wider)
                found.append(ends["low"] <= truth <= ends["high"])
    assert np.mean(inside) >= 0.9
    assert np.mean(plain) < 0.85


@pytest.mark.ci
def test_intervals_cover_the_truth() -> None:
    """Of 200 experiments on 30 people whose decisions have nothing to do with the label, about 95 %
    have an interval that holds 0.5.
    """
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 10)
    label = np.tile(np.repeat([0, 1], 5), 30)
    windows = LabelledWindows(label, person, person, ["a", "b"])
    drawn, units, covered = draws(windows, 500), units_of(windows, "window"), 0
    for _ in range(200):
        # What a person's classes differ by is alike in all of that person's windows
        value = rng.normal(size=(30, 2))[person, label] + rng.normal(size=300)
        found = interval(
            score(count_people(units, np.stack([-value, value], 1)), drawn.weight)["auroc"]
        )
        covered += found["low"] <= 0.5 <= found["high"]
    assert 178 <= covered <= 198
