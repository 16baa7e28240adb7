"""Recordings and people are scored by the mean of the probabilities that `eegdm predict` gives."""

from __future__ import annotations

import numpy as np
import pytest

from eegdm.evaluation.metrics import class_probabilities, scores
from eegdm.evaluation.results import RunResult, of_units, pooled


def run(fold: int, temperature: float | None, n_logits: int) -> RunResult:
    """Four recordings of two people, each recording with one label."""
    rng = np.random.default_rng(fold)
    recording = np.repeat([f"{fold}{name}" for name in "abcd"], [3, 1, 5, 4])
    label = np.repeat([0, 1, 1, 0], [3, 1, 5, 4])
    subject = np.repeat([f"{fold}x", f"{fold}x", f"{fold}y", f"{fold}y"], [3, 1, 5, 4])
    logits = 3 * rng.standard_normal((len(label), n_logits)).astype(np.float32)
    return RunResult(
        f"fold {fold}",
        0,
        scores(label, logits),
        label,
        logits,
        subject,
        recording,
        temperature=temperature,
        fold=fold,
    )


@pytest.mark.parametrize("n_logits", [1, 2])
@pytest.mark.parametrize("temperature", [None, 0.3, 4.0])
def test_a_recording_is_the_mean_of_its_calibrated_windows(
    n_logits: int, temperature: float | None
) -> None:
    windows = run(0, temperature, n_logits)
    found = of_units(windows, "recording")
    assert found is not None
    for name, logits in zip(found.recording, class_probabilities(found.logits), strict=True):
        own = windows.logits[windows.recording == name]
        each = [class_probabilities(one[None], temperature or 1.0)[0] for one in own]
        assert logits == pytest.approx(sum(each) / len(each))


def test_each_fold_keeps_its_own_temperature() -> None:
    folds = [run(0, 0.3, 2), run(1, 4.0, 2)]
    (joined,) = pooled(folds, 2)
    found, (first, second) = (
        of_units(joined, "recording"),
        (of_units(f, "recording") for f in folds),
    )
    assert found is not None and first is not None and second is not None
    assert list(found.recording) == [*first.recording, *second.recording]
    np.testing.assert_allclose(found.logits, np.concatenate([first.logits, second.logits]))


def test_a_person_with_recordings_of_two_labels_is_not_one_sample() -> None:
    assert of_units(run(0, None, 2), "subject") is None
