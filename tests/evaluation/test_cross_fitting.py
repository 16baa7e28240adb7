"""Heads for few marks: they are ridge regressions, they see nothing of what they are asked about,
and what they let expect is what one counts by hand.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from eegdm.errors import UserError
from eegdm.evaluation.cross_fitting import (
    Marked,
    StoredTokens,
    calibrate,
    cross_fit,
    expect,
    fit_head,
    marks,
    scale_logits,
)
from eegdm.evaluation.metrics import class_probabilities


def made(
    people: int = 4, recordings: int = 2, runs: int = 4, length: int = 3, effect: float = 1.0
) -> tuple[Marked, torch.Tensor]:
    """Recordings in which two labels take turns, and tokens that differ a little between them."""
    rng = np.random.default_rng(0)
    label = np.tile(np.repeat(np.arange(runs) % 2, length), people * recordings)
    person = np.repeat(np.arange(people), recordings * runs * length)
    recording = np.repeat(np.arange(people * recordings), runs * length)
    group = {"people": person, "recordings": recording, "marks": marks(label, recording)}
    logs = rng.standard_normal((len(label), 4, 1, 2, 3))
    logs[:, 2:, :, 0] += effect * label[:, None, None, None] * np.array([1.0, -1.0, 0.5])
    tokens = torch.from_numpy(np.exp(logs).astype(np.float32))
    return Marked(label, np.ones(len(label), bool), group, ("rest", "task")), tokens


def reader(tokens: torch.Tensor) -> object:
    def read(rows: np.ndarray) -> StoredTokens:
        return tokens[torch.from_numpy(rows)]

    return read


def test_a_head_is_the_ridge_regression_of_its_penalty_but_for_the_offset() -> None:
    marked, tokens = made()
    rows = np.arange(len(marked.label))
    fitted = fit_head(marked, rows, tokens)
    values = fitted.head.values(fitted.readout.blocks(tokens)).flatten(1).double().numpy()
    standard = (values - values.mean(0)) / values.std(0)
    targets = np.eye(2)[marked.label]
    ridge = Ridge(fitted.penalty * values.shape[1]).fit(standard, targets)
    difference = fitted.decide(tokens) - ridge.predict(standard)
    assert np.ptp(difference, axis=0) == pytest.approx([0, 0], abs=1e-4)
    assert np.ptp(ridge.predict(standard), axis=0).min() > 0.1


@pytest.mark.parametrize("level", ["people", "recordings", "marks"])
def test_the_head_that_is_asked_about_somebody_saw_nothing_of_them(level: str) -> None:
    """Whatever their signal was, that head is the same, bit by bit, and others are not."""
    sizes = {"people": (4, 2), "recordings": (1, 4), "marks": (1, 1)}[level]
    marked, tokens = made(*sizes, runs=6)
    if level == "marks":  # two recordings, one label in each of which is in no other
        half = np.arange(len(marked.label)) >= len(marked.label) // 2
        marked.group["recordings"][:] = half
    found = cross_fit(marked, reader(tokens))
    assert found.level == ("recordings" if level == "marks" else level)
    groups = marked.group[found.level]
    for held_out, head in zip(np.unique(groups), found.heads, strict=True):
        other = tokens.clone()
        other[torch.from_numpy(groups == held_out)] *= 7.0
        again = cross_fit(marked, reader(other)).heads
        same = [
            all(torch.equal(a, b) for a, b in zip(
                one.head.state_dict().values(), two.head.state_dict().values(), strict=True
            ))
            if one.readout == two.readout else False
            for one, two in zip(found.heads, again, strict=True)
        ]  # fmt: skip
        assert same == [one is head for one in found.heads]


def test_what_is_left_out_is_the_most_telling_that_there_is() -> None:
    marked, tokens = made(people=2)
    assert cross_fit(marked, reader(tokens)).level == "people"
    marked, tokens = made(people=1, recordings=3)
    assert cross_fit(marked, reader(tokens)).level == "recordings"
    marked, tokens = made(people=1, recordings=2)
    marked.label[marked.group["recordings"] == 1] = 0  # "task" is in one recording alone
    marked.group["marks"][:] = marks(marked.label, marked.group["recordings"])
    assert cross_fit(marked, reader(tokens)).level == "marks"
    marked, tokens = made(people=1, recordings=1, runs=2)
    with pytest.raises(UserError, match="'rest' is marked once"):
        cross_fit(marked, reader(tokens))


def test_windows_without_a_label_are_judged_and_not_learned_from() -> None:
    marked, tokens = made()
    label = marked.label.copy()
    label[::6] = -1
    partly = Marked(label, label >= 0, marked.group, marked.classes)
    other = tokens.clone()
    other[::6] = 3.0
    one, two = cross_fit(partly, reader(tokens)), cross_fit(partly, reader(other))
    assert np.isfinite(one.decisions).all()
    assert np.array_equal(one.decisions[label >= 0], two.decisions[label >= 0])
    assert not np.array_equal(one.decisions[::6], two.decisions[::6])


def test_what_is_expected_is_counted_window_by_window() -> None:
    marked, tokens = made(effect=0.6)
    found = cross_fit(marked, reader(tokens))
    expected = expect(marked, {"own": found})
    margin = found.decisions[:, 1] - found.decisions[:, 0]
    pairs = list(itertools.product(margin[marked.label == 1], margin[marked.label == 0]))
    auroc = np.mean([(a > b) + (a == b) / 2 for a, b in pairs])
    recalls = [np.mean((margin > 0)[marked.label == k] == k) for k in (0, 1)]
    scores = expected.scores.set_index("score")
    assert scores.value["auroc"] == pytest.approx(auroc)
    assert scores.value["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert list(expected.recall.values()) == pytest.approx(recalls)
    assert 0.5 < auroc < 1 and (scores.low < scores.value).all()
    assert (expected.across, expected.n_groups) == ("people", 4)
    two, tokens = made(people=2)
    few = expect(two, {"own": cross_fit(two, reader(tokens))})
    assert few.scores.low.isna().all() and "too few for an interval" in few.sentence()


def test_a_recording_is_judged_by_the_mean_probability_of_its_windows() -> None:
    marked, tokens = made(people=6, recordings=4, effect=0.25)
    marked.label[:] = marked.group["recordings"] % 2
    tokens[..., 0, :] *= torch.from_numpy(np.exp(0.2 * marked.label))[:, None, None, None]
    found = cross_fit(marked, reader(tokens))
    expected = expect(marked, {"own": found}, "recordings")
    probability = class_probabilities(found.decisions * found.calibration(marked))[:, 1]
    of_recording = [probability[marked.group["recordings"] == k].mean() for k in range(24)]
    truth = np.arange(24) % 2
    scores = expected.scores.set_index("score").value
    assert scores["auroc"] == pytest.approx(roc_auc_score(truth, of_recording))
    right = (np.array(of_recording) > 0.5) == truth
    assert scores["balanced_accuracy"] == pytest.approx(right.mean()) and 0.5 < right.mean() < 1
    assert expected.n_units == {"rest": 12, "task": 12} and expected.across == "people"


def test_other_features_are_compared_on_the_same_draws() -> None:
    marked, tokens = made(people=12, effect=1.0)
    noise = torch.from_numpy(np.random.default_rng(1).lognormal(size=tokens.shape)).float()
    found = cross_fit(marked, reader(tokens))
    every = {"own": found, "twin": found, "noise": cross_fit(marked, reader(noise))}
    expected = expect(marked, every)
    assert list(expected.scores.features) == 2 * ["own"] + 2 * ["twin"] + 2 * ["noise"]
    by_name = expected.differences.set_index(["minus", "score"])
    assert (by_name.loc["twin"] == 0).all(axis=None)
    alone = expect(marked, {"noise": every["noise"]}).scores.set_index("score").value
    value = expected.scores[expected.scores.features == "own"].set_index("score").value
    assert by_name.loc["noise"].value.to_dict() == pytest.approx((value - alone).to_dict())
    assert (by_name.loc["noise"].low > 0).all()
    same, worse = expected.comparisons()
    assert "not shown to differ" in same and "tokens of own are better, +0." in worse
    assert expect(marked, {"own": found}).comparisons() == []


def test_by_chance_heads_expect_chance() -> None:
    """Heads that are chosen and tested on the same people would expect much more."""
    marked, tokens = made(people=12, recordings=1, runs=10, length=2, effect=0.0)
    found = {"own": cross_fit(marked, reader(tokens))}
    score = expect(marked, found).scores.set_index("score")
    assert abs(score.value["auroc"] - 0.5) < 0.1
    everybody = fit_head(marked, np.arange(len(marked.label)), tokens).decide(tokens)
    assert np.mean(everybody.argmax(1) == marked.label) > score.value["balanced_accuracy"]


def test_calibration_depends_on_the_order_of_size_of_decisions_alone() -> None:
    marked, tokens = made(effect=0.6)
    decisions = cross_fit(marked, reader(tokens)).decisions
    factor = calibrate(decisions, marked.label)
    assert calibrate(1e-4 * decisions, marked.label) == pytest.approx(1e4 * factor, rel=1e-3)
    assert calibrate(decisions + 3.0, marked.label) == pytest.approx(factor, rel=1e-3)


def test_a_few_windows_that_are_all_right_do_not_make_certainty() -> None:
    decisions = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    factor = calibrate(decisions, np.array([0, 0, 1, 1]))
    surest = class_probabilities(factor * decisions).max()
    assert 0.6 < surest < 0.9  # of three like it, the one more included, two are right


def test_scaling_a_head_scales_its_logits() -> None:
    marked, tokens = made()
    fitted = fit_head(marked, np.arange(len(marked.label)), tokens)
    before = fitted.decide(tokens)
    scale_logits(fitted.head, 3.0)
    assert fitted.decide(tokens) == pytest.approx(3.0 * before, rel=1e-5, abs=1e-5)


def test_marks_are_runs_within_a_recording() -> None:
    label, recording = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1])
    assert list(marks(label, recording)) == [0, 0, 1, 1, 2, 3]
