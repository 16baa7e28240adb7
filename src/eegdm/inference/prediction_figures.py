"""Pictures of a prediction: the whole recording's probabilities, and events as traces. Each
function returns a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator
from numpy import ndarray

from eegdm.console import clock
from eegdm.evaluation.decision import RECORDING, Rule, smoothed
from eegdm.report.charts import STYLE, colour, short
from eegdm.report.traces import draw_scale_bar, draw_traces, scale_uv

# More than the timeline's pixels show: a night of windows would make a file of many megabytes.
_TIMELINE_COLUMNS = 1600
_TICKS_S = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
_LANE = 0.26
_BAR = 0.7


@rc_context(STYLE)
def timeline(windows: pd.DataFrame, events: pd.DataFrame, rule: Rule, duration_s: float) -> Figure:
    """Events of each class as bars; below, the smoothed probabilities of the event classes,
    stacked, and the threshold. Where the whole recording is decided about, its class is the bar,
    and probabilities are not smoothed; the line is then the mean of the first event class.

    Where the recording has more windows than the picture has columns, each column shows the window
    most like an event.
    """
    colours = {name: colour(k) for k, name in enumerate(rule.event_classes)}
    lanes = 0.25 + _LANE * len(rule.event_classes)
    figure = Figure(figsize=(9.6, 2.9 + lanes))
    above, below = figure.subplots(2, 1, height_ratios=(lanes, 2.2), sharex=True)
    _draw_lanes(above, events, rule.event_classes, colours, duration_s)
    if rule.decide == RECORDING:
        first = rule.event_classes[0]
        level, name = float(windows[first].mean()), f"mean of {short(first)}"
        rule = replace(rule, smoothing_s=0.0)
    else:
        level, name = rule.threshold, "threshold"
    times, probability = _columns(windows, smoothed(windows, rule))
    below.stackplot(times, probability.T, colors=list(colours.values()), step="mid", lw=0)
    below.axhline(level, color="black", linestyle="--", linewidth=1.2)
    below.annotate(
        f"{name} {level:.2f}",
        (1, level),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
    below.set(
        ylim=(0, 1),
        ylabel="probability",
        xlabel="time in the recording, " + ("h:min:s" if duration_s >= 3600 else "min:s"),
    )
    below.set_xlim(0, duration_s)
    below.xaxis.set_major_locator(
        MultipleLocator(next((s for s in _TICKS_S if duration_s / s <= 12), _TICKS_S[-1]))
    )
    below.xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    handles = [Patch(color=ink, label=short(name)) for name, ink in colours.items()]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), handlelength=1.0
    )
    return figure


def _draw_lanes(
    axes: Axes,
    events: pd.DataFrame,
    names: Sequence[str],
    colours: dict[str, str],
    duration_s: float,
) -> None:
    # So that an event of a second is still seen in a day.
    thinnest = duration_s / 800
    for lane, name in enumerate(names):
        of_class = events[events.label == name]
        spans = [
            (onset, max(length, thinnest))
            for onset, length in zip(of_class.onset_s, of_class.duration_s, strict=True)
        ]
        axes.broken_barh(spans, (lane + 0.5 - _BAR / 2, _BAR), color=colours[name], linewidth=0)
    axes.set_ylim(len(names), 0)
    axes.set_yticks(np.arange(len(names)) + 0.5, [short(name) for name in names], fontsize=10)
    axes.tick_params(left=False, labelbottom=False)
    axes.spines["left"].set_visible(False)
    if events.empty:
        axes.text(0.5, 0.5, "no event", transform=axes.transAxes, ha="center", va="center")


def _columns(
    windows: pd.DataFrame, probability: Float[ndarray, "window class"]
) -> tuple[ndarray, Float[ndarray, "column class"]]:
    """Middles and probabilities of windows; of each bin of many, the window with the highest
    sum.
    """
    times = (windows.onset_s + windows.duration_s / 2).to_numpy()
    if len(times) <= _TIMELINE_COLUMNS:
        return times, probability
    best = [
        part[probability[part].sum(axis=1).argmax()]
        for part in np.array_split(np.arange(len(times)), _TIMELINE_COLUMNS)
    ]
    return times[best], probability[best]


@rc_context(STYLE)
def traces(
    microvolts: Float[ndarray, "channel time"],
    ch_names: Sequence[str],
    sfreq: float,
    start_s: float,
    event: pd.Series,
    ink: str,
) -> Figure:
    """A stretch of the filtered signal with the event shaded; negative up.

    Args:
        start_s: when the stretch starts in the recording.
        event: onset_s and duration_s.
    """
    figure = Figure(figsize=(9.6, 1.0 + 0.27 * len(ch_names)))
    axes = figure.add_subplot()
    scale = scale_uv(microvolts)
    draw_traces(axes, microvolts, ch_names, sfreq, scale, start=start_s)
    axes.axvspan(
        event.onset_s, event.onset_s + event.duration_s, color=ink, alpha=0.18, linewidth=0
    )
    axes.set_xlim(start_s, start_s + microvolts.shape[1] / sfreq)
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    axes.set_xlabel("time in the recording")
    draw_scale_bar(axes, scale)
    return figure
