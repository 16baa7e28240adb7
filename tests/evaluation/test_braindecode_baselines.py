"""braindecode's models, trained from scratch on windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegdm.config import FinetuneConfig
from eegdm.data.batches import SignalWindows, WindowBatch
from eegdm.errors import UserError
from eegdm.evaluation.braindecode_baselines import find_braindecode_model, logits_from_scratch
from eegdm.evaluation.metrics import multiclass_scores

QUICK = FinetuneConfig(epochs=12, batch_size=16, patience=12)


class Made(SignalWindows):
    """Two kinds of windows, told apart by the amplitude of one channel."""

    def __init__(self, n: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.channels, self.labels = ["FP1-F7", "F7-T3", "C3-CZ"], np.arange(n) % 2
        self.keys = [("made", i, 400) for i in range(n)]
        self.signals = random.normal(size=(n, 3, 400)).astype(np.float32)
        self.signals[:, 1] *= 1 + 3 * self.labels[:, None]

    def __getitem__(self, keys):
        rows = [row for _, row in keys]
        mask, noise = np.ones((len(rows), 3), bool), np.zeros(0, np.float32)
        return WindowBatch(
            *map(
                torch.from_numpy,
                (self.signals[rows], mask, self.labels[rows], np.array(rows), noise, noise),
            )
        )


def learned(seed: int = 0, settings: FinetuneConfig = QUICK, weights=None) -> np.ndarray:
    parts = (Made(64, 0), Made(32, 1), Made(32, 2))
    return logits_from_scratch(
        "ShallowFBCSPNet", *parts, 200.0, 2, settings, weights, seed, torch.device("cpu")
    )


def test_a_model_learns_what_tells_windows_apart_and_the_seed_decides_how() -> None:
    logits = learned()
    assert logits.shape == (32, 2)
    assert multiclass_scores(Made(32, 2).labels, logits, 2)["kappa"] > 0.9
    assert np.array_equal(learned(), logits)
    assert not np.array_equal(learned(seed=1), logits)


def test_training_leaves_the_random_numbers_of_its_caller_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    learned()
    assert torch.equal(torch.rand(2), expected)


def test_a_model_learns_with_the_class_weights_of_the_classifier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = []
    before = torch.nn.CrossEntropyLoss.__init__
    monkeypatch.setattr(
        torch.nn.CrossEntropyLoss,
        "__init__",
        lambda self, weight=None: (weights.append(weight), before(self, weight))[1],
    )
    once = FinetuneConfig(epochs=1, batch_size=16)
    learned(settings=once, weights=[1.0, 3.0])
    assert weights and weights[0].tolist() == [1.0, 3.0]
    weights.clear()
    learned(settings=once)
    assert weights == [None]


def test_the_epoch_with_the_best_monitored_score_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of scores 0.1, 0.9, 0.2, ... the second is kept: the weights are those of two epochs."""
    given = iter([0.1, 0.9, 0.2, 0.3])
    monkeypatch.setattr(
        "eegdm.evaluation.braindecode_baselines._monitored",
        lambda *args, name, **_: next(given) if name == "balanced_accuracy" else None,
    )
    settings = FinetuneConfig(epochs=4, batch_size=16, patience=4, monitor="balanced_accuracy")
    kept = learned(settings=settings)
    given = iter([0.1, 0.9])
    two = learned(settings=FinetuneConfig(epochs=2, batch_size=16, monitor="balanced_accuracy"))
    assert np.array_equal(kept, two)


@pytest.mark.parametrize(
    ("name", "said"), [("EEGNett", 'did you mean "EEGNet"'), ("os", "no such model")]
)
def test_a_model_that_is_not_there_is_named(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_braindecode_model(name)


def test_a_model_that_takes_no_such_windows_says_so() -> None:
    with pytest.raises(
        UserError,
        match="compare=braindecode.USleep: does not take 3 channels of 400 samples at 200 Hz",
    ):
        logits_from_scratch(
            "USleep",
            *(Made(8, seed) for seed in range(3)),
            200.0,
            2,
            QUICK,
            None,
            0,
            torch.device("cpu"),
        )
