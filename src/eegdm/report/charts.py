"""Charts of scores and training. Each function returns a matplotlib Figure and touches no global
state.

Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart; words
that come from files are drawn as they are, never read as formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eegdm.evaluation.metrics import SCALARS, Scores

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
GREY = "#999999"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
SCORE_NAMES = {
    "kappa": "kappa",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
    "auc_pr": "AUC-PR",
    "auroc": "AUROC",
}
"""How the scores of :data:`eegdm.evaluation.metrics.SCALARS` are called on paper."""


def colour(index: int) -> str:
    """Colour of the n-th thing."""
    return PALETTE[index % len(PALETTE)]


def short(name: str, most: int = 18) -> str:
    """Name that fits beside an axis."""
    return name if len(name) <= most else name[: most - 1] + "…"


@rc_context(STYLE)
def confusion_matrix(scores: Scores, classes: Sequence[str], title: str) -> Figure:
    """Rows are the annotated classes; each cell shows its share of the row and, below, the number
    of windows.
    """
    counts = np.array(scores["confusion"], dtype=float)
    support = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    size = max(3.6, 1.1 + 0.68 * len(classes))
    figure = Figure(figsize=(size, size))
    axes = figure.add_subplot()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for (row, column), value in np.ndenumerate(share):
        ink = "white" if value > 0.55 else "black"
        text = (
            f"{100 * value:.0f} %\n{counts[row, column]:.0f}" if support[row, 0] else "no\nwindow"
        )
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=10)
    names = [short(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="annotated", title=short(title, 30))
    axes.spines[:].set_visible(False)
    return figure


@rc_context(STYLE)
def class_bars(runs: Sequence[Scores], classes: Sequence[str]) -> Figure:
    """Recall, precision and F1 of each class, mean over runs; whiskers span the lowest and the
    highest run.
    """
    names = ("recall", "precision", "f1")
    values = np.array(
        [[[c[n] for n in names] for c in run["per_class"]] for run in runs], dtype=float
    )
    figure = Figure(figsize=(5.4, 1.4 + 0.72 * len(classes)))
    axes = figure.add_subplot()
    for column in range(len(names)):
        place = np.arange(len(classes)) + 0.26 * (column - 1)
        for y, of_runs in zip(place, values[:, :, column].T, strict=True):
            _bar(axes, y, of_runs, colour(column))
    supports = [c["support"] for c in runs[0]["per_class"]]
    axes.set_yticks(
        range(len(classes)),
        [f"{short(c)}\n{n} windows" for c, n in zip(classes, supports, strict=True)],
    )
    axes.set(xlim=(0, 112), xticks=range(0, 101, 20), xlabel="%")
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    names_on_paper = ("recall", "precision", "F1")
    handles = [
        Patch(color=colour(column), label=name) for column, name in enumerate(names_on_paper)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _bar(axes: Axes, y: float, values: np.ndarray, ink: str) -> None:
    """One bar with its number; a class without value (no window, never predicted) gets the words
    instead.
    """
    if np.isnan(values).any():
        axes.text(1, y, "not defined", va="center", fontsize=8, color="#555555")
        return
    mean = 100 * values.mean()
    spread = 100 * np.array([[values.mean() - values.min()], [values.max() - values.mean()]])
    axes.barh(
        y, mean, height=0.24, color=ink, xerr=spread if len(values) > 1 else None, ecolor="#333333"
    )
    axes.text(100 * values.max() + 1, y, f"{mean:.0f}", va="center", fontsize=9)


@rc_context(STYLE)
def training_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss, the first two validation scores and the learning rate over epochs, a colour for each
    run.

    Args:
        curves: name of the run -> its curves.csv, one row per epoch: epoch, lr, train_loss,
            val_loss, val_<score>.
    """
    columns = {column for table in curves.values() for column in table.columns}
    panels = _panels(columns)
    figure = Figure(figsize=(5.4, 0.9 + 1.75 * len(panels)))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(grid, panels.items(), strict=True):
        for index, table in enumerate(curves.values()):
            for name in names:
                _curve(axes, table, name, colour(index))
        axes.set_ylabel(title)
        axes.grid(axis="both")
        if title in ("loss", "learning rate"):
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-2, 4))
    grid[-1].set_xlabel("epoch")
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, grid[0], list(curves), "val_loss" in columns)
    return figure


def _panels(columns: set[str]) -> dict[str, list[str]]:
    """Title of each panel and its columns."""
    scores = [name for name in SCALARS if f"val_{name}" in columns][:2]
    panels = {"loss": ["train_loss", "val_loss"]}
    panels |= {
        SCORE_NAMES[name].replace("balanced ", "balanced\n"): [f"val_{name}"] for name in scores
    }
    return panels | {"learning rate": ["lr"]}


def _curve(axes: Axes, table: pd.DataFrame, name: str, ink: str) -> None:
    if name not in table:
        return
    rows = table[["epoch", name]].dropna()
    solid = name == "train_loss" or name == "lr"
    few = len(rows) <= 60
    axes.plot(
        rows["epoch"] + 1,
        rows[name],
        color=ink,
        linestyle="-" if solid else "--",
        marker="." if few else None,
    )


def _legend(figure: Figure, axes: Axes, runs: Sequence[str], validated: bool) -> None:
    entries = [(colour(k), "-", short(run)) for k, run in enumerate(runs)] if len(runs) > 1 else []
    if validated:
        entries += [("black", "-", "training"), ("black", "--", "validation")]
    handles = [
        axes.plot([], [], color=ink, linestyle=line, label=text)[0] for ink, line, text in entries
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))


@rc_context(STYLE)
def reliability(curves: Mapping[str, dict[str, Any]], of: str) -> Figure:
    """Observed share over predicted probability for each named calibration, and the number of
    windows behind it.

    Args:
        curves: name -> result of :func:`eegdm.evaluation.metrics.calibration`.
        of: what the probability is of, such as "the predicted class".
    """
    figure = Figure(figsize=(4.9, 6.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="ideal")
    for index, (name, result) in enumerate(curves.items()):
        points = [b for b in result["bins"] if b["count"]]
        error = f"{short(name, 30)} (error {100 * result['expected_calibration_error']:.1f} %)"
        predicted, observed = ([b[key] for b in points] for key in ("predicted", "observed"))
        upper.plot(predicted, observed, marker="o", color=colour(index), label=error)
        edges = [b["low"] for b in result["bins"]] + [1.0]
        lower.stairs(
            [b["count"] for b in result["bins"]], edges, color=colour(index), linewidth=1.5
        )
    upper.set(ylabel="share observed", xlim=(0, 1), ylim=(0, 1.02))
    lower.set(xlabel=f"predicted probability of {of}", ylabel="windows")
    for axes in (upper, lower):
        axes.grid()
        axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", fontsize=10)
    return figure


@rc_context(STYLE)
def learning_curve(lines: Mapping[str, pd.DataFrame], x_label: str, y_label: str) -> Figure:
    """A score over how many people were learned from, a colour for each kind of features.

    Args:
        lines: name -> a row per point: n_people, value, low, high.
        x_label, y_label: of the axes.
    """
    figure = Figure(figsize=(6.4, 4.6))
    axes = figure.add_subplot()
    points = sorted({int(n) for table in lines.values() for n in table.n_people})
    place = {n: k for k, n in enumerate(points)}
    for index, (name, table) in enumerate(lines.items()):
        x = [place[int(n)] + 0.06 * (index - (len(lines) - 1) / 2) for n in table.n_people]
        value = table.value.to_numpy(float)
        spread = np.stack([value - table.low.to_numpy(float), table.high.to_numpy(float) - value])
        axes.errorbar(
            x, value, np.maximum(spread, 0), color=colour(index), marker="o", capsize=2, label=name
        )
    axes.set_xticks(range(len(points)), [str(n) for n in points])
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    return figure
