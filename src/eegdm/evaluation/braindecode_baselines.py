"""Models of braindecode, trained from scratch on the windows that a classifier learned from: what
its report compares with.

Needs the extra `braindecode`. All models are trained alike: AdamW at a constant rate,
cross-entropy with the classifier's class weights, until its monitored validation score has not
risen for `finetune.patience` epochs (the loss has not fallen, where validation holds one class);
then the weights of the best epoch count. They see the same windows as EEGDM, in units of 100 µV,
companded, at its sampling rate, under the names of its channels; a channel that a recording lacks
is zero.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.utils.data import Dataset

from eegdm.config import FinetuneConfig, did_you_mean
from eegdm.data.batches import SignalWindows
from eegdm.errors import UserError
from eegdm.evaluation.metrics import scores

LEARNING_RATE = 1e-3
MONITORED = "monitored"  # name of the validation score in skorch's history


def find_braindecode_model(name: str) -> Any:
    """Return the class of one of braindecode's models.

    Raises:
        UserError: braindecode can't be imported, or has no such model.
    """
    try:
        with warnings.catch_warnings():
            # MNE warns of montages that braindecode reads.
            warnings.simplefilter("ignore", FutureWarning)
            from braindecode.models.util import models_dict
    except (ImportError, OSError) as error:
        raise UserError(
            f"compare=braindecode.{name}: braindecode can't be imported ({error}); see"
            " docs/braindecode.md"
        ) from error
    if name not in models_dict:
        raise UserError(
            f"compare=braindecode.{name}: braindecode has no such"
            f" model{did_you_mean(name, models_dict)}"
        )
    return models_dict[name]


def logits_from_scratch(
    name: str,
    train: SignalWindows,
    val: SignalWindows,
    test: SignalWindows,
    sfreq: float,
    n_classes: int,
    settings: FinetuneConfig,
    weights: Sequence[float] | None,
    seed: int,
    device: torch.device,
) -> Float[np.ndarray, "window class"]:
    """Train a model on one part, stop it by another, and return its logits on the third.

    Args:
        name: of the model, as braindecode has it, such as EEGNet.
        train, val, test: windows of signals, not of tokens.
        sfreq: of the windows, Hz.
        n_classes: number of logits.
        settings: epochs, patience, batch_size and monitor are used.
        weights: weight of each class in the loss; None: all alike.
        seed: of initial weights, dropout and order.
        device: to compute on.

    Raises:
        UserError: as :func:`find_model`, or the model does not take such windows.
    """
    model = find_braindecode_model(name)
    if not len(train) or not len(val):
        raise UserError(
            f"compare=braindecode.{name}: {len(train)} samples to learn from, {len(val)} to"
            " validate; choose another split"
        )
    from braindecode import EEGClassifier
    from skorch.callbacks import EarlyStopping, EpochScoring
    from skorch.helper import predefined_split

    n_times = train[[(0, 0)]].data.shape[-1]
    channels = [{"ch_name": channel} for channel in train.channels]
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    by_score = len(np.unique(val.labels)) > 1
    score = EpochScoring(
        functools.partial(_monitored, labels=val.labels, name=settings.monitor),
        lower_is_better=False,
        name=MONITORED,
        use_caching=False,
    )
    stopping = EarlyStopping(
        monitor=MONITORED if by_score else "valid_loss",
        lower_is_better=not by_score,
        patience=settings.patience,
        load_best=True,
        sink=_silent,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            network = model(n_outputs=n_classes, chs_info=channels, n_times=n_times, sfreq=sfreq)
        # Each of the models has demands of its own, and its own way to say so.
        except Exception as error:
            raise UserError(
                f"compare=braindecode.{name}: does not take {len(train.channels)} channels of"
                f" {n_times} samples at {sfreq:g} Hz ({error})"
            ) from error
        classifier = EEGClassifier(
            network,
            criterion=nn.CrossEntropyLoss,
            criterion__weight=weight,
            optimizer=torch.optim.AdamW,
            lr=LEARNING_RATE,
            batch_size=min(settings.batch_size, len(train)),
            max_epochs=settings.epochs,
            train_split=predefined_split(_Pairs(val)),
            callbacks=[score, stopping] if by_score else [stopping],
            classes=list(range(n_classes)),
            device=device.type,
            verbose=0,
        )
        classifier.fit(_Pairs(train), y=None)
        return _network_logits(classifier, _Pairs(test))


def _network_logits(classifier: Any, windows: Dataset) -> Float[np.ndarray, "window class"]:
    return np.concatenate([part.float().cpu().numpy() for part in classifier.forward_iter(windows)])


def _monitored(classifier: Any, windows: Dataset, _: Any, labels: np.ndarray, name: str) -> float:
    """The score that picks the classifier's own checkpoint."""
    return scores(np.asarray(labels), _network_logits(classifier, windows))[name]


def _silent(_: str) -> None:
    """What says that training stopped."""


class _Pairs(Dataset):
    """Windows one by one, as (signal, label)."""

    def __init__(self, windows: SignalWindows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        batch = self.windows[[(0, row)]]
        return batch.data[0], int(batch.label[0])
