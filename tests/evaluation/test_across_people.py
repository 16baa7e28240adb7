"""Nothing of the people tested reaches the heads that judge them, and everybody is tested once."""

from __future__ import annotations

import numpy as np
import pytest

from eegdm.errors import UserError
from eegdm.evaluation.across_people import (
    N_REPEATS,
    Kind,
    LabelledWindows,
    _order_of_people,
    centred,
    decide,
    folds,
    permuted_labels,
)

N_PEOPLE, N_EACH = 12, 12


def two_classes_each() -> LabelledWindows:
    """Everybody has a recording of each of two classes."""
    person = np.repeat(np.arange(N_PEOPLE), N_EACH)
    label = np.tile(np.repeat([0, 1], [8, 4]), N_PEOPLE)
    return LabelledWindows(label, person, 2 * person + label, ["rest", "task"])


def one_class_each() -> LabelledWindows:
    person = np.repeat(np.arange(N_PEOPLE), N_EACH)
    return LabelledWindows((person % 3 == 0).astype(int), person, person, ["control", "patient"])


def random_features(windows: LabelledWindows, seed: int = 0, n: int = 25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(windows.person.max() + 1, n))[windows.person]
    return (rng.normal(size=(len(windows.label), n)) + own).astype(np.float32)


KINDS = [Kind("a", ("a",), permuted=True), Kind("both", ("a", "b"))]


@pytest.mark.parametrize("windows", [two_classes_each(), one_class_each()])
def test_everybody_is_tested_once_and_never_learned_from(windows: LabelledWindows) -> None:
    tested = []
    for learn, test in folds(windows):
        assert not set(windows.person[learn]) & set(windows.person[test])
        assert set(windows.label[learn]) == {0, 1}
        tested.extend(test)
    assert sorted(tested) == list(range(len(windows.label)))


@pytest.mark.parametrize("windows", [two_classes_each(), one_class_each()])
def test_no_head_depends_on_the_people_tested(windows: LabelledWindows) -> None:
    """Other features and, within a person, other labels of people tested change no decision on
    anybody else in their fold, and no choice.
    """
    a, b = random_features(windows), random_features(windows, 1)
    permuted = permuted_labels(windows, 3)
    before = decide({"a": a, "b": b}, windows, KINDS, permuted)
    for fold, (_, test) in enumerate(folds(windows)[:2]):
        who = windows.person[test][0]
        changed = windows.person == who
        others = test[windows.person[test] != who]
        a_changed = np.where(changed[:, None], 1e3 * a - 7, a).astype(np.float32)
        label = windows.label.copy()
        if windows.n_labels_of(who) > 1:  # keeps the division into folds
            label[changed] = label[changed][::-1]
        relabelled = LabelledWindows(label, windows.person, windows.recording, windows.classes)
        same_folds = [list(t) for _, t in folds(relabelled)] == [list(t) for _, t in folds(windows)]
        assert same_folds
        permuted_too = np.where(changed, permuted[:, ::-1], permuted)
        after = decide({"a": a_changed, "b": b}, relabelled, KINDS, permuted_too)
        for name in ("a", "both"):
            assert after[name].penalty[fold] == before[name].penalty[fold]
            np.testing.assert_array_equal(after[name].values[others], before[name].values[others])
            for n_people, curve in before[name].curve.items():
                np.testing.assert_array_equal(
                    after[name].curve[n_people][:, others], curve[:, others]
                )
            np.testing.assert_array_equal(
                after[name].permuted[:, others], before[name].permuted[:, others]
            )


def test_every_window_is_decided_in_every_part() -> None:
    windows = two_classes_each()
    features = {"a": random_features(windows), "b": random_features(windows, 1)}
    found = decide(features, windows, KINDS, permuted_labels(windows, 3))
    assert found["a"].permuted.shape == (3, len(windows.label), 2)
    assert found["both"].permuted.shape == (0, len(windows.label), 2)
    for kind in found.values():
        assert np.isfinite(kind.values).all() and np.isfinite(kind.permuted).all()
        assert sorted(kind.curve) == [2, 4, 8]
        for curve in kind.curve.values():
            assert curve.shape == (N_REPEATS, len(windows.label), 2) and np.isfinite(curve).all()


def test_few_people_of_one_class_each_are_of_both_classes() -> None:
    """Of 2, 4 and 8 people to learn from, half are of each class while there are enough."""
    windows = one_class_each()
    for seed in range(5):
        order, needed = _order_of_people(
            windows, np.arange(len(windows.label)), np.random.default_rng(seed)
        )
        classes = [windows.label[windows.person == who][0] for who in order]
        assert needed == 2 and sorted(order) == list(range(N_PEOPLE))
        assert all(sum(classes[:n]) == n // 2 for n in (2, 4, 6, 8))


def test_arrays_side_by_side_weigh_the_same() -> None:
    """However many features they have: an array that is repeated in itself changes nothing."""
    windows = two_classes_each()
    a, b = random_features(windows), random_features(windows, 1)
    wider = np.concatenate([b] * 8, axis=1)
    nothing = permuted_labels(windows, 0)
    kinds = [Kind("both", ("a", "b"))]
    found = decide({"a": a, "b": b}, windows, kinds, nothing)["both"]
    again = decide({"a": a, "b": wider}, windows, kinds, nothing)["both"]
    np.testing.assert_allclose(found.values, again.values, atol=1e-4)
    joined = np.concatenate([a, b], axis=1)
    as_one = decide({"a": joined}, windows, [Kind("a", ("a",))], nothing)["a"]
    np.testing.assert_allclose(found.values, as_one.values, atol=1e-4)


def test_heads_of_permuted_labels_learn_those_labels() -> None:
    """The real labels give the real decisions, and exchanged classes exchange them."""
    windows = two_classes_each()
    a, b = random_features(windows), random_features(windows, 1)
    kinds = [Kind("both", ("a", "b"), permuted=True)]
    labels = np.stack([windows.label, 1 - windows.label])
    found = decide({"a": a, "b": b}, windows, kinds, labels)["both"]
    np.testing.assert_array_equal(found.permuted[0], found.values)
    np.testing.assert_allclose(found.permuted[1], found.values[:, ::-1], atol=1e-6)


def test_permuted_labels_keep_stretches_and_people() -> None:
    windows = two_classes_each()
    for labels in permuted_labels(windows, 20):
        for who in windows.people:
            own = windows.person == who
            first, second = labels[own][:8], labels[own][8:]
            assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]
    flipped = permuted_labels(windows, 400)[:, ::N_EACH].mean()
    assert 0.45 < flipped < 0.55


def test_permuted_labels_of_people_of_one_class_are_exchanged_among_them() -> None:
    windows = one_class_each()
    found = permuted_labels(windows, 50)
    by_person = found.reshape(50, N_PEOPLE, N_EACH)
    assert (by_person == by_person[:, :, :1]).all()
    assert (by_person[:, :, 0].sum(axis=1) == 4).all()
    assert len({tuple(row) for row in by_person[:, :, 0]}) > 30


def test_centring_takes_the_mean_of_each_person_away() -> None:
    windows = two_classes_each()
    x = random_features(windows)
    found = centred(x, windows.person)
    for who in windows.people:
        own = windows.person == who
        np.testing.assert_allclose(found[own], x[own] - x[own].mean(axis=0), atol=1e-5)


def test_too_few_people_of_a_class_are_refused() -> None:
    person = np.repeat(np.arange(6), 4)
    with pytest.raises(UserError, match="'rare': only 2 of the people have it"):
        LabelledWindows((person < 2).astype(int), person, person, ["common", "rare"])
    with pytest.raises(UserError, match="two labels or more"):
        LabelledWindows(np.zeros(24, int), person, person, ["common"])


def test_features_that_are_not_finite_are_refused() -> None:
    windows = two_classes_each()
    x = random_features(windows)
    x[3, 1] = np.nan
    with pytest.raises(UserError, match="a: some features are not finite"):
        decide({"a": x}, windows, KINDS[:1], permuted_labels(windows, 0))
