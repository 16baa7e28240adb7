"""What a result must be compared with: chance, band power, pooled tokens, and a linear head on any
features.

All are scored like the classifier, on the same split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from eegdm.errors import UserError
from eegdm.evaluation.metrics import FALSE_ALARM_RATES, Scores, confusion_scores

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
_CHUNK = 256  # windows transformed at once: 22 channels of 5 s take 90 MB
_REGULARISATION = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # values of C to choose from
_DEFAULT_C = 0.1  # where a class is too rare to choose
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
            one Hann-windowed
        Fourier transform of the window, its mean removed.

    Raises:
        UserError: a band holds no frequency, since windows are too short or sfreq is too low.
    """
    n_times = windows.shape[-1]
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq)
    bins = [np.flatnonzero((low <= frequency) & (frequency < high)) for low, high in BANDS.values()]
    for band, found in zip(BANDS, bins, strict=True):
        if not len(found):
            raise UserError(
                f"windows of {n_times} samples at {sfreq:g} Hz hold nothing of {band},"
                f" {BANDS[band]} Hz"
            )
    taper = np.hanning(n_times)
    parts = [
        _log_means(windows[i : i + _CHUNK], taper / np.sqrt(sfreq * np.sum(taper**2) / 2), bins)
        for i in range(0, len(windows), _CHUNK)
    ]
    return np.concatenate(parts)


def _log_means(
    windows: np.ndarray, taper: np.ndarray, bins: list[np.ndarray]
) -> Float[np.ndarray, "window feature"]:
    centred = windows - windows.mean(axis=-1, keepdims=True)
    density = np.abs(np.fft.rfft(centred * taper)) ** 2
    means = np.stack([density[..., found].mean(axis=-1) for found in bins], axis=-1)
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
        mask: False where a recording lacks a channel; such a channel is no part of the first mean,
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
    balanced: bool = False,
) -> Float[np.ndarray, "test class"]:
    """Logistic regression on standardised features, trained on one split, asked about the other.

    The strength of its regularisation is chosen by 3-fold cross-validation (log loss) within the
    training windows.

    Args:
        train_x, train_y: features and classes to learn from.
        test_x: features of the windows to classify.
        n_classes: number of logits.
        seed: of the order in folds.
        unit: subject of each training window; a subject stays within one fold. None: windows are
            free.
        balanced: weigh classes inversely to their frequency, to be compared with a weighted loss.

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

    model = _regression(train_y, seed, unit, balanced)
    with threadpool_limits(
        1
    ):  # thousands of small products, among which threads lose six times what they win
        model.fit(train_x, train_y)
    logits = np.full((len(test_x), n_classes), -30.0)
    logits[:, model.classes_] = np.maximum(model.predict_log_proba(test_x), -30.0)
    return logits


def _regression(train_y: np.ndarray, seed: int, unit: np.ndarray | None, balanced: bool) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weight = "balanced" if balanced else None
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=_DEFAULT_C, max_iter=2000, class_weight=weight)
    )
    folds = _folds(train_y, seed, unit)
    if folds is None:
        return model
    return GridSearchCV(
        model, {"logisticregression__C": _REGULARISATION}, cv=folds, scoring="neg_log_loss"
    )


def _folds(
    train_y: np.ndarray, seed: int, unit: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Folds that all hold every class in both of their parts, or None where there are none such."""
    from sklearn.model_selection import StratifiedGroupKFold

    unit = np.arange(len(train_y)) if unit is None else unit
    classes = np.unique(train_y)
    if min(len(np.unique(unit[train_y == k])) for k in classes) < _N_FOLDS:
        return None
    splitter = StratifiedGroupKFold(_N_FOLDS, shuffle=True, random_state=seed)
    folds = list(splitter.split(train_y, train_y, unit))
    complete = all(len(np.unique(train_y[part])) == len(classes) for fold in folds for part in fold)
    return folds if complete else None


def chance(
    train_y: Int[np.ndarray, " train"],
    test_y: Int[np.ndarray, " test"],
    n_classes: int,
    binary: bool,
) -> dict[str, Scores]:
    """Score two who never look at the signal, as ``scores(..., binary)`` would; expectations,
    nothing is drawn.

    Returns:
        ``majority class``: always says the commonest class of the training windows. ``label
            prior``: says each class
        at random, as often as it occurs there.
    """
    prior = np.bincount(train_y, minlength=n_classes) / len(train_y)
    support = np.bincount(test_y, minlength=n_classes)
    says = {"majority class": np.eye(n_classes)[np.argmax(prior)], "label prior": prior}
    blind = {name: confusion_scores(np.outer(support, share)) for name, share in says.items()}
    if not binary:
        return blind
    found = {
        "majority class": dict.fromkeys(FALSE_ALARM_RATES, 0.0),
        "label prior": {r: r for r in FALSE_ALARM_RATES},
    }
    return {name: blind[name] | _blind_ranking(support, found[name]) for name in blind}


def _blind_ranking(support: np.ndarray, sensitivity: dict[float, float]) -> Scores:
    """Scores of ranks that tell nothing: one that gives all windows the same, or a random one."""
    return {
        "auc_pr": float(support[1] / support.sum()),
        "auroc": 0.5,
        "sensitivity_at": [
            {"false_alarm_rate": rate, "sensitivity": found} for rate, found in sensitivity.items()
        ],
    }
