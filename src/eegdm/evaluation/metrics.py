"""Scores of window classifiers, their calibration, and how far chance could have made them.

Everything here takes arrays and gives plain numbers that JSON can hold. A score that is not defined
(a class is absent) is ``None``, never NaN, and ``scores["undefined"]`` says why. Kappa, balanced
accuracy, weighted F1, average precision and AUROC equal those of scikit-learn; they are computed
here because the bootstrap asks for them a thousand times for each run, and because chance is scored
from expected counts alone, without predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from eegdm.errors import UserError

Scores = dict[str, Any]

SCALARS = ("kappa", "balanced_accuracy", "weighted_f1", "accuracy", "auc_pr", "auroc")
"""The scores that are one number; what :func:`summarise` and :func:`bootstrap` look at."""

FALSE_ALARM_RATES = (0.01, 0.05, 0.1)
"""Shares of background windows that may be called an event, at which the sensitivity is reported.
"""


# ----------------------------------------------------------------------------------------- scores


def scores(label: Int[np.ndarray, " window"], logits: Float[np.ndarray, "window logit"]) -> Scores:
    """Return :func:`binary_scores` of two classes, which one logit or two may stand for, or
    :func:`multiclass_scores` of more.
    """
    if logits.shape[1] <= 2:
        return binary_scores(label, event_logit(logits))
    return multiclass_scores(label, logits, logits.shape[1])


def multiclass_scores(
    label: Int[np.ndarray, " window"], logits: Float[np.ndarray, "window class"], n_classes: int
) -> Scores:
    """Score the class of the largest logit against the label.

    Returns:
        ``n`` windows, ``kappa``, ``balanced_accuracy`` (over the classes that occur),
        ``weighted_f1``, ``accuracy``, ``per_class`` (for each class a dict of recall, precision,
        f1, support), ``confusion`` (rows: label, columns: prediction), ``undefined``.

    Raises:
        UserError: there is no window, a label is not a class, or a logit is not finite.
    """
    _check(label, logits, n_classes)
    return confusion_scores(_count_confusion(label, logits.argmax(axis=1), n_classes))


def binary_scores(
    label: Int[np.ndarray, " window"],
    logit: Float[np.ndarray, " window"],
    false_alarm_rates: Sequence[float] = FALSE_ALARM_RATES,
) -> Scores:
    """Score a detector: label 1 is an event, an event is predicted where its probability is above
    0.5 (logit above 0).

    Returns:
        What :func:`multiclass_scores` gives for the classes (background, event), and ``auc_pr``
        (average precision), ``auroc`` and ``sensitivity_at``: for each rate, the largest share of
        events found by a threshold that calls at most that share of the background windows an
        event.

    Raises:
        UserError: as :func:`multiclass_scores`.
    """
    result = multiclass_scores(label, np.stack([np.zeros_like(logit), logit], axis=1), 2)
    if len(np.unique(label)) < 2:
        missing = dict.fromkeys(("auc_pr", "auroc"), _only_class(label[0]))
        sensitivities = [
            {"false_alarm_rate": rate, "sensitivity": None} for rate in false_alarm_rates
        ]
        undefined = result["undefined"] | missing | {"sensitivity_at": _only_class(label[0])}
        return (
            result
            | dict.fromkeys(missing)
            | {
                "sensitivity_at": sensitivities,
                "undefined": undefined,
            }
        )
    return result | _ranking_scores(label, logit, false_alarm_rates)


def _ranking_scores(
    label: np.ndarray, logit: np.ndarray, false_alarm_rates: Sequence[float]
) -> Scores:
    """In NumPy, as the bootstrap calls it a thousand times; thresholds lie between different
    logits, from the top.
    """
    order = np.argsort(-logit, kind="stable")
    # Equal logits fall on the same side of every threshold, so only the last of them counts.
    last = np.append(np.flatnonzero(np.diff(logit[order])), len(logit) - 1)
    hits = np.cumsum(label[order])[last]
    precision = hits / (last + 1)
    sensitivity = np.append(0.0, hits / hits[-1])
    false_alarms = np.append(0.0, (last + 1 - hits) / (len(label) - hits[-1]))
    heights = (sensitivity[1:] + sensitivity[:-1]) / 2
    return {
        "auc_pr": float(np.diff(sensitivity) @ precision),
        "auroc": float(np.diff(false_alarms) @ heights),
        "sensitivity_at": [
            {
                "false_alarm_rate": rate,
                "sensitivity": float(sensitivity[false_alarms <= rate].max()),
            }
            for rate in false_alarm_rates
        ],
    }


def confusion_scores(confusion: Shaped[np.ndarray, "label predicted"]) -> Scores:
    """Return what :func:`multiclass_scores` does, from the counts alone; they may be expected
    counts, not whole.
    """
    n, hits = confusion.sum(), np.diag(confusion)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = support > 0
    undefined = {}

    by_chance = float(support @ predicted) / n**2
    kappa = _ratio(hits.sum() / n - by_chance, 1 - by_chance)
    if kappa is None:
        undefined["kappa"] = (
            "every window is of one class and was predicted so: agreement by chance is complete"
        )
    balanced = float(np.mean(hits[occurs] / support[occurs]))
    if occurs.sum() < 2:
        undefined["balanced_accuracy"] = _only_class(int(np.argmax(support)))
    f1 = [_ratio(2 * hit, all_) for hit, all_ in zip(hits, support + predicted, strict=True)]
    return {
        "n": int(round(n)),
        "kappa": kappa,
        "balanced_accuracy": None if occurs.sum() < 2 else balanced,
        "weighted_f1": float(sum(s * (f or 0.0) for s, f in zip(support, f1, strict=True)) / n),
        "accuracy": float(hits.sum() / n),
        "per_class": [
            {
                "recall": _ratio(hit, s),
                "precision": _ratio(hit, p),
                "f1": f,
                "support": int(round(s)),
            }
            for hit, s, p, f in zip(hits, support, predicted, f1, strict=True)
        ],
        "confusion": confusion.tolist(),
        "undefined": undefined | _undefined_of_classes(support, predicted),
    }


def _undefined_of_classes(support: np.ndarray, predicted: np.ndarray) -> dict[str, str]:
    reasons = {
        f"recall of class {k}": "no window is of this class" for k in np.flatnonzero(support == 0)
    }
    return reasons | {
        f"precision of class {k}": "never predicted" for k in np.flatnonzero(predicted == 0)
    }


def _count_confusion(
    label: np.ndarray, predicted: np.ndarray, n_classes: int
) -> Int[np.ndarray, "label predicted"]:
    return np.bincount(label * n_classes + predicted, minlength=n_classes**2).reshape(
        n_classes, n_classes
    )


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _only_class(label: int) -> str:
    return f"every window is of class {int(label)}; two classes are needed"


def _check(label: np.ndarray, logits: np.ndarray, n_classes: int) -> None:
    if len(label) == 0:
        raise UserError(
            "no window to score: the split has no labelled window; check windows.split and the"
            " events"
        )
    if len(label) != len(logits) or logits.shape[1] != n_classes:
        raise UserError(
            f"{len(label)} labels of {n_classes} classes do not fit logits of shape {logits.shape}"
        )
    if label.min() < 0 or label.max() >= n_classes:
        raise UserError(
            f"labels reach from {label.min()} to {label.max()}, allowed are 0 to {n_classes - 1}"
        )
    if not np.isfinite(logits).all():
        raise UserError(
            "some logits are not finite: the classifier diverged, train it with a lower"
            " finetune.max_lr"
        )


# --------------------------------------------------------------------- probabilities, calibration


def event_logit(logits: Float[np.ndarray, "window logit"]) -> Float[np.ndarray, " window"]:
    """Log-odds of class 1 from its one logit, or from the logits of two classes."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def class_probabilities(
    logits: Float[np.ndarray, "window logit"], temperature: float = 1.0
) -> Float[np.ndarray, "window class"]:
    """Softmax of logits / temperature; one logit is that of class 1 of two."""
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    logits = logits / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def calibration(
    label: Int[np.ndarray, " window"],
    probabilities: Float[np.ndarray, "window *class"],
    n_bins: int = 10,
) -> Scores:
    """Compare probabilities with what happened, in bins of equal width.

    Args:
        label: class of each window.
        probabilities: of each class, then the predicted class and its probability are judged; or,
            one-dimensional, of class 1 of two, then that one is judged (rare events would drown in
            the other view).
        n_bins: number of bins of [0, 1].

    Returns:
        ``bins``: low, high, count, mean predicted probability, share observed (``None`` where
        empty), and ``expected_calibration_error``, the mean distance of the two over all windows
        (Guo et al., arXiv:1706.04599).
    """
    if probabilities.ndim == 1:
        predicted, happened = probabilities, label == 1
    else:
        predicted, happened = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    bin_of = np.minimum((predicted * n_bins).astype(int), n_bins - 1)
    count, sum_predicted, sum_observed = (
        np.bincount(bin_of, w, n_bins) for w in (None, predicted, happened)
    )
    bins = [
        {
            "low": k / n_bins,
            "high": (k + 1) / n_bins,
            "count": int(count[k]),
            "predicted": _ratio(sum_predicted[k], count[k]),
            "observed": _ratio(sum_observed[k], count[k]),
        }
        for k in range(n_bins)
    ]
    return {
        "bins": bins,
        "expected_calibration_error": float(
            np.abs(sum_predicted - sum_observed).sum() / len(label)
        ),
    }


def fit_temperature(
    logits: Float[np.ndarray, "window logit"], label: Int[np.ndarray, " window"]
) -> float:
    """Return the temperature within 0.05 .. 20 that makes the labels likeliest; fit it on
    validation windows.

    Where every window is predicted rightly the likelihood has no maximum; a temperature well below
    1 is returned.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        right = class_probabilities(logits, np.exp(log_temperature))[np.arange(len(label)), label]
        return -float(np.mean(np.log(np.maximum(right, np.finfo(float).tiny))))

    return float(
        np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x)
    )


def fit_event_threshold(
    label: Int[np.ndarray, " window"], event_probability: Float[np.ndarray, " window"]
) -> float:
    """Return the probability above which to call an event so that F1 is largest; fit it on
    validation windows.

    Args:
        label: 1 where the window is of any event, 0 where it is background.
        event_probability: summed probability of the event classes.

    Returns:
        A threshold halfway between the last window called an event and the first one that is not.

    Raises:
        UserError: no window is an event.
    """
    if not label.any():
        raise UserError(
            "no validation window is an event, so no threshold can be fitted; check windows.split"
        )
    order = np.argsort(-event_probability, kind="stable")
    sorted_probability = np.append(event_probability[order], 0.0)
    hits = np.cumsum(label[order])
    f1 = 2 * hits / (np.arange(1, len(label) + 1) + hits[-1])
    # No threshold parts equal probabilities.
    f1[sorted_probability[:-1] == sorted_probability[1:]] = -1.0
    last = int(np.argmax(f1))
    return float(sorted_probability[last : last + 2].mean())


# ------------------------------------------------------------------------------------ uncertainty


def bootstrap(
    table: Sequence[Shaped[np.ndarray, "window ..."]],
    unit: Shaped[np.ndarray, " window"],
    score: Callable[..., Scores],
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return 95 % intervals of scores over units that are drawn anew with replacement (percentile
    bootstrap).

    Windows of one subject are alike, so whole subjects are drawn; give recordings or runs as units
    if there are fewer than 10 subjects.

    Args:
        table: arrays with one row per window, such as (label, logits).
        unit: the subject (recording, run) of each window.
        score: takes the arrays of ``table`` and returns scores; those in :data:`SCALARS` get an
            interval.
        n: number of draws.
        seed: of the draws.

    Returns:
        For each score: ``value`` on the windows as they are, ``low``, ``high`` and ``n_undefined``
        (draws without a value, which are left out). ``low`` and ``high`` are ``None`` where there
        is one unit only or no draw has one.
    """
    rng = np.random.default_rng(seed)
    # The rows of each unit are listed once, not searched for in each of a thousand draws.
    _, unit_of = np.unique(unit, return_inverse=True)
    rows_of = np.split(np.argsort(unit_of, kind="stable"), np.cumsum(np.bincount(unit_of))[:-1])
    draws = []
    for _ in range(n if len(rows_of) > 1 else 0):
        rows = np.concatenate([rows_of[u] for u in rng.integers(len(rows_of), size=len(rows_of))])
        draws.append(_scalars(score(*(array[rows] for array in table))))
    return {
        name: _interval(value, [d[name] for d in draws])
        for name, value in _scalars(score(*table)).items()
    }


def _scalars(result: Scores) -> dict[str, float | None]:
    return {name: result[name] for name in SCALARS if name in result}


def _interval(value: float | None, draws: list[float | None]) -> dict[str, Any]:
    defined = [d for d in draws if d is not None]
    low, high = np.percentile(defined, [2.5, 97.5]).tolist() if defined else (None, None)
    return {"value": value, "low": low, "high": high, "n_undefined": len(draws) - len(defined)}


def summarise(results: Sequence[Scores]) -> dict[str, dict[str, float | None]]:
    """Return mean and population standard deviation over runs of each scalar score, x100, two
    decimals.

    Where a run lacks a value there is none for the mean either.
    """
    summary = {}
    for name in _scalars(results[0]):
        values = [r[name] for r in results]
        defined = None not in values
        summary[name] = {
            "mean": round(100 * float(np.mean(values)), 2) + 0.0 if defined else None,
            "std": round(100 * float(np.std(values)), 2) if defined else None,
        }
    return summary
