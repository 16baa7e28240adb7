"""What a result must be compared with: chance, band power, pooled tokens, and a linear head on any
features.

All are scored like the classifier, on the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from eegdm.errors import UserError
from eegdm.evaluation.metrics import FALSE_ALARM_RATES, Scores, confusion_scores, scores

BANDS = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 70.0),
}
"""Edges of the bands, Hz; the upper edge belongs to the next band."""

# (100 µV)²/Hz, a ten thousandth of an amplifier's noise; keeps the log of a flat channel finite
_FLOOR = 1e-12
_WINDOWS_AT_ONCE = 256  # windows transformed at once: 22 channels of 5 s take 90 MB
_REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # values of C to choose from
_DEFAULT_C = 0.1  # where there is nothing to choose by
_N_FOLDS = 3


def band_power(
    windows: Float[np.ndarray, "window channel time"], sfreq: float
) -> Float[np.ndarray, "window feature"]:
    """Return log10 of the mean power density in each band of :data:`BANDS`.

    Args:
        windows: signal in 100 µV.
        sfreq: sampling frequency, Hz.

    Returns:
        channels x 5 features, the bands of a channel side by side; densities in (100 µV)²/Hz, from
        one Hann-windowed Fourier transform of the window, its mean removed.

    Raises:
        UserError: a band holds no frequency, since windows are too short or sfreq is too low.
    """
    n_times = windows.shape[-1]
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq)
    bins = [np.flatnonzero((low <= frequency) & (frequency < high)) for low, high in BANDS.values()]
    for band, indices in zip(BANDS, bins, strict=True):
        if not len(indices):
            raise UserError(
                f"windows of {n_times} samples at {sfreq:g} Hz hold nothing of {band},"
                f" {BANDS[band]} Hz"
            )
    taper = np.hanning(n_times)
    parts = [
        _log_means(
            windows[i : i + _WINDOWS_AT_ONCE], taper / np.sqrt(sfreq * np.sum(taper**2) / 2), bins
        )
        for i in range(0, len(windows), _WINDOWS_AT_ONCE)
    ]
    return np.concatenate(parts)


def _log_means(
    windows: np.ndarray, taper: np.ndarray, bins: list[np.ndarray]
) -> Float[np.ndarray, "window feature"]:
    centred = windows - windows.mean(axis=-1, keepdims=True)
    density = np.abs(np.fft.rfft(centred * taper)) ** 2
    means = np.stack([density[..., indices].mean(axis=-1) for indices in bins], axis=-1)
    return np.log10(means + _FLOOR).reshape(len(windows), -1)


def pooled_tokens(
    tokens: Float[np.ndarray, "window block pool query channel feature"],
    mask: Bool[np.ndarray, "window channel"],
) -> Float[np.ndarray, "window value"]:
    """Return what a linear head can take of tokens: two means over pools, side by side, one over
    channels too, one over blocks too.

    The first keeps the depth (block, query, feature), the second the place on the head (query,
    channel, feature): all of a full-size backbone's tokens would be 56,320 features, these are
    5,376.

    Args:
        mask: False where a recording lacks a channel; such a channel is not part of the first mean,
            and zero in the second.
    """
    of_window = tokens.mean(axis=2, dtype=np.float32)
    share = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)
    per_block = np.einsum("wbqcf,wc->wbqf", of_window, share)
    per_channel = of_window.mean(axis=1) * mask[:, None, :, None]
    return np.concatenate(
        [per_block.reshape(len(tokens), -1), per_channel.reshape(len(tokens), -1)], axis=1
    )


def linear_probe(
    train_x: Float[np.ndarray, "train feature"],
    train_y: Int[np.ndarray, " train"],
    test_x: Float[np.ndarray, "test feature"],
    n_classes: int,
    seed: int,
    unit: Shaped[np.ndarray, " train"] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    monitor: str | None = None,
    weights: Sequence[float] | None = None,
) -> Float[np.ndarray, "test class"]:
    """Logistic regression on standardised features, trained on one part, asked about another.

    The strength of its regularisation is the one with the best score on windows that it does not
    learn from: the validation part, or in turn each of 3 folds of the training windows.

    Args:
        train_x, train_y: features and classes to learn from.
        test_x: features of the windows to classify.
        n_classes: number of logits.
        seed: of the order in folds.
        unit: subject of each training window; a subject stays within one fold. None: windows are
            free.
        validation: features and classes of the validation part; None: folds.
        monitor: name of the score, as :func:`eegdm.evaluation.metrics.scores` calls it. The log
            loss decides between equals, and alone where the windows judged are of one class or
            there is no monitor.
        weights: weight of each class in the loss; None: all alike.

    Returns:
        Logits: log-probabilities, -30 for a class that the training windows lack.

    Raises:
        UserError: the training windows are all of one class.
    """
    if len(np.unique(train_y)) < 2:
        raise UserError(
            f"all {len(train_y)} training windows are of class {train_y[0]}; two classes are needed"
        )
    from threadpoolctl import threadpool_limits

    if validation is not None:
        parts = [(train_x, train_y, *validation)] if len(validation[1]) else []
    else:
        folds = _folds(train_y, seed, unit)
        parts = [(train_x[a], train_y[a], train_x[b], train_y[b]) for a, b in folds]
    # Thousands of small products, among which threads lose six times what they win.
    with threadpool_limits(1):
        penalty = _best_penalty(parts, n_classes, monitor, weights)
        model = _regression(penalty, train_y, weights).fit(train_x, train_y)
        return _log_probabilities(model, test_x, n_classes)


def _best_penalty(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    n_classes: int,
    monitor: str | None,
    weights: Sequence[float] | None,
) -> float:
    """The C with the best mean score over parts (features and classes to learn from and to judge
    by); of equals the smallest.
    """
    if not parts:
        return _DEFAULT_C
    judged: dict[float, list[tuple[float, float]]] = {c: [] for c in _REGULARISATION}
    for learn_x, learn_y, judge_x, judge_y in parts:
        for c, scored in judged.items():
            model = _regression(c, learn_y, weights).fit(learn_x, learn_y)
            logits = _log_probabilities(model, judge_x, n_classes)
            scored.append(_judge(judge_y, logits, monitor, weights))
    return max(judged, key=lambda c: tuple(np.mean(judged[c], axis=0)))


def _judge(
    label: np.ndarray, logits: np.ndarray, monitor: str | None, weights: Sequence[float] | None
) -> tuple[float, float]:
    """The monitored score, 0 where it can't tell models apart, and minus the log loss."""
    of_class = np.ones(logits.shape[1]) if weights is None else np.asarray(weights, float)
    likelihood = logits[np.arange(len(label)), label]
    fit = float(np.mean(of_class[label] * likelihood))
    if monitor is None or len(np.unique(label)) < 2:
        return 0.0, fit
    return scores(label, logits)[monitor], fit


def _log_probabilities(model: Any, x: np.ndarray, n_classes: int) -> np.ndarray:
    logits = np.full((len(x), n_classes), -30.0)
    logits[:, model.classes_] = np.log(np.maximum(model.predict_proba(x), np.exp(-30.0)))
    return logits


def _regression(penalty: float, label: np.ndarray, weights: Sequence[float] | None) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    of_class = None if weights is None else {int(k): weights[k] for k in np.unique(label)}
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=penalty, max_iter=2000, class_weight=of_class)
    )


def _folds(
    train_y: np.ndarray, seed: int, unit: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds that all hold every class in both of their parts; empty where there are none such."""
    from sklearn.model_selection import StratifiedGroupKFold

    unit = np.arange(len(train_y)) if unit is None else unit
    classes = np.unique(train_y)
    if min(len(np.unique(unit[train_y == k])) for k in classes) < _N_FOLDS:
        return []
    splitter = StratifiedGroupKFold(_N_FOLDS, shuffle=True, random_state=seed)
    folds = list(splitter.split(train_y, train_y, unit))
    complete = all(len(np.unique(train_y[part])) == len(classes) for fold in folds for part in fold)
    return folds if complete else []


def chance(
    train_y: Int[np.ndarray, " train"],
    test_y: Int[np.ndarray, " test"],
    n_classes: int,
    weights: Sequence[float] | None = None,
) -> dict[str, Scores]:
    """Score two who never look at the signal, as :func:`eegdm.evaluation.metrics.scores` would;
    expectations, nothing is drawn.

    Args:
        weights: weight of each class among the training windows; None: all alike.

    Returns:
        ``majority class``: always predicts the class that weighs most among the training windows.
        ``label prior``: predicts each class at random, as often as it weighs there.
    """
    return {
        name: chance_scores([np.outer(np.bincount(test_y, minlength=n_classes), share)], name)
        for name, share in blind_shares(train_y, n_classes, weights).items()
    }


def blind_shares(
    train_y: Int[np.ndarray, " window"], n_classes: int, weights: Sequence[float] | None = None
) -> dict[str, Float[np.ndarray, " class"]]:
    """Return how often each blind guesser predicts each class."""
    weighed = np.bincount(train_y, minlength=n_classes) * (1.0 if weights is None else weights)
    return {
        "majority class": np.eye(n_classes)[np.argmax(weighed)],
        "label prior": weighed / weighed.sum(),
    }


def chance_scores(confusions: Sequence[np.ndarray], name: str) -> Scores:
    """Score a blind guesser by its expected confusions on one or several test parts together."""
    confusion = np.sum(confusions, axis=0)
    result = confusion_scores(confusion)
    support = confusion.sum(axis=1)
    if len(support) != 2:
        return result
    if not support.all():
        return result | dict.fromkeys(("auc_pr", "auroc"))
    at_random = name == "label prior"
    return result | {
        "auc_pr": float(support[1] / support.sum()),
        "auroc": 0.5,
        "sensitivity_at": [
            {"false_alarm_rate": rate, "sensitivity": rate if at_random else 0.0}
            for rate in FALSE_ALARM_RATES
        ],
    }
