"""Pictures of EEG as an electroencephalographer reads it: chains of channels top to bottom, seconds
left to right, negative up.

Each function returns a matplotlib Figure. Signals are in µV, times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eegdm.console import clock
from eegdm.data.montage import TCP
from eegdm.report.charts import GREY, STYLE, colour, short

if TYPE_CHECKING:
    from eegdm.report.content import Example, Samples

POLARITY = (
    "Negative is up: a deflection points up where the first electrode of the pair is more negative"
    " than the second."
)

_CHAINS = {
    "left temporal": TCP[:4],
    "right temporal": TCP[4:8],
    "left ear to vertex": TCP[8:11],
    "vertex to right ear": TCP[11:14],
    "left parasagittal": TCP[14:18],
    "right parasagittal": TCP[18:],
}
_SCALES_UV = [step * 10**power for power in range(4) for step in (1, 2, 3, 5, 7)]
_CHAIN_GAP = 0.6  # extra room between chains, in rows
_STRETCH_S = 12.0  # longest stretch whose spikes can still be seen
_REAL, _GENERATED = "#000000", "#D55E00"


def chains(ch_names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Group neighbours of the same chain: (name of the chain, indices); the name is "" for channels
    of no chain.
    """
    chain_of = {channel: chain for chain, channels in _CHAINS.items() for channel in channels}
    groups: list[tuple[str, list[int]]] = []
    for index, name in enumerate(ch_names):
        chain = chain_of.get(name, "")
        if not groups or groups[-1][0] != chain:
            groups.append((chain, []))
        groups[-1][1].append(index)
    return groups


def scale_uv(signal: Float[np.ndarray, "*any time"]) -> int:
    """A round number of µV that lets most of the signal stay within its row."""
    centred = signal - np.median(signal, axis=-1, keepdims=True)
    wanted = 1.5 * float(np.percentile(np.abs(centred), 97))
    return min((s for s in _SCALES_UV if s >= wanted), default=_SCALES_UV[-1])


# ----------------------------------------------------------------------------- generated and real


@rc_context(STYLE)
def generated_traces(samples: Samples) -> Figure:
    """One real window of each channel beside one generated for it, at the same scale."""
    real, generated = samples.real[:, 0], samples.generated[:, 0]
    scale = scale_uv(np.concatenate([real, generated], axis=1))
    figure = Figure(figsize=(9.6, 1.2 + 0.27 * len(samples.ch_names)))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, signal, title, ink in (
        (left, real, "real", _REAL),
        (right, generated, "generated", _GENERATED),
    ):
        draw_traces(axes, signal, samples.ch_names, samples.sfreq, scale, ink=ink)
        axes.set_title(title)
        axes.set_xlabel("seconds")
    draw_scale_bar(right, scale)
    return figure


@rc_context(STYLE)
def generated_spectra(samples: Samples) -> Figure:
    """Power spectrum of each channel, mean over windows, real and generated; a row for each
    chain.
    """
    rows = [part for _, group in chains(samples.ch_names) for part in _lines_of(group, 4)]
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.35 * columns, 0.9 + 1.55 * len(rows)))
    grid = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    for row, line in zip(rows, grid, strict=True):
        for axes, index in zip(line, row, strict=False):
            for signal, ink in ((samples.real, _REAL), (samples.generated, _GENERATED)):
                frequency, density = _spectrum(signal[index], samples.sfreq)
                axes.loglog(frequency, density, color=ink, linewidth=1.2)
            axes.set_title(short(samples.ch_names[index]), fontsize=10, pad=2)
            axes.grid(which="major")
        for axes in line[len(row) :]:
            axes.set_axis_off()
    grid[0, 0].set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    grid[0, 0].minorticks_off()
    grid[0, 0].yaxis.set_major_formatter("{x:g}")
    figure.supxlabel("frequency, Hz")
    figure.supylabel("power density, µV²/Hz")
    handles = [Patch(color=_REAL, label="real"), Patch(color=_GENERATED, label="generated")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _lines_of(group: list[int], most: int) -> list[list[int]]:
    return [group[i : i + most] for i in range(0, len(group), most)]


def _spectrum(
    windows: Float[np.ndarray, "window time"], sfreq: float
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.signal import welch

    frequency, density = welch(windows, sfreq, nperseg=min(windows.shape[1], int(2 * sfreq)))
    shown = (frequency >= 0.5) & (frequency <= min(75.0, 0.45 * sfreq))
    return frequency[shown], density[:, shown].mean(axis=0)


# --------------------------------------------------------------------- a recording and its events


@rc_context(STYLE)
def recording_events(
    example: Example, classes: Sequence[str], event_classes: Sequence[str]
) -> Figure:
    """A stretch with its annotated and predicted events; below, events and probabilities of the
    whole recording.
    """
    colours = {name: colour(k) if name in event_classes else GREY for k, name in enumerate(classes)}
    true, predicted = (
        e[e["label"].isin(event_classes)] for e in (example.true_events, example.predicted_events)
    )
    duration = example.signal.shape[1] / example.sfreq
    start, stop = busiest_stretch(true, predicted, duration)
    shown = [name for name in event_classes if name in {*true["label"], *predicted["label"]}]

    lanes, rows = 0.3 + 0.26 * max(1, len(shown)), 0.6 + 0.27 * len(example.ch_names)
    figure = Figure(figsize=(9.6, 4.3 + rows + 2 * lanes))
    near, traces, far, probabilities = figure.subplots(
        4, 1, height_ratios=(lanes, rows, lanes, 1.9)
    )
    for axes, title in (
        (
            near,
            f"{clock(start, tenths=True)} to {clock(stop, tenths=True)}: thick bar annotated, thin"
            " bar predicted",
        ),
        (far, "the whole recording; the stretch above lies between the dotted lines"),
    ):
        draw_lanes(axes, true, predicted, shown, colours)
        axes.set_title(title, fontsize=11, loc="left")
        axes.tick_params(labelbottom=False)
    _draw_stretch(traces, example, true, predicted, colours, start, stop)
    _draw_probabilities(probabilities, example, classes, event_classes, colours)
    near.set_xlim(start, stop)
    for axes in (far, probabilities):
        axes.set_xlim(0, duration)
        for edge in (start, stop):
            axes.axvline(edge, color="black", linestyle=":", linewidth=1)
    for axes in (traces, probabilities):
        axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds, tenths=True))
    return figure


def busiest_stretch(
    true: pd.DataFrame, predicted: pd.DataFrame, duration_s: float
) -> tuple[float, float]:
    """Choose the stretch that shows most classes of events, then most events; the beginning if
    there are none.
    """
    length = min(_STRETCH_S, duration_s)
    events = pd.concat([true, predicted])[["onset_s", "duration_s", "label"]]
    best, highest = 0.0, (0, 0)
    for onset in events["onset_s"]:
        start = float(np.clip(onset - 1.5, 0, duration_s - length))
        inside = events[
            (events["onset_s"] < start + length)
            & (events["onset_s"] + events["duration_s"] > start)
        ]
        variety = (inside["label"].nunique(), len(inside.drop_duplicates()))
        best, highest = (start, variety) if variety > highest else (best, highest)
    return best, best + length


def _draw_stretch(
    axes: Axes,
    example: Example,
    true: pd.DataFrame,
    predicted: pd.DataFrame,
    colours: dict[str, str],
    start: float,
    stop: float,
) -> None:
    signal = example.signal[:, round(start * example.sfreq) : round(stop * example.sfreq)]
    scale = scale_uv(signal)
    place = draw_traces(axes, signal, example.ch_names, example.sfreq, scale, start=start)
    row_of = dict(zip(example.ch_names, place, strict=True))
    for event in true.drop_duplicates().itertuples():
        row = row_of.get(str(getattr(event, "channel", "")))
        low, high = (row - 0.5, row + 0.5) if row is not None else (place[-1] - 1, place[0] + 1)
        span = [event.onset_s, event.onset_s + event.duration_s]
        axes.fill_between(span, low, high, color=colours[event.label], alpha=0.18, linewidth=0)
    for event in predicted.itertuples():
        for edge in (event.onset_s, event.onset_s + event.duration_s):
            axes.axvline(edge, color=colours[event.label], linestyle="--", linewidth=1.2)
    axes.set_xlim(start, stop)
    draw_scale_bar(axes, scale)


def _draw_probabilities(
    axes: Axes,
    example: Example,
    classes: Sequence[str],
    event_classes: Sequence[str],
    colours: dict[str, str],
) -> None:
    """Probabilities stacked to 1, background at the bottom: what lies above it is the probability
    of an event.
    """
    order = sorted(range(len(classes)), key=lambda k: classes[k] in event_classes)
    layers = [example.probabilities[:, k] for k in order]
    names = [short(classes[k]) for k in order]
    axes.stackplot(
        example.times,
        layers,
        colors=[colours[classes[k]] for k in order],
        labels=names,
        step="mid",
        lw=0,
    )
    axes.set(ylim=(0, 1), ylabel="probability", xlabel="time in the recording, min:s")
    axes.figure.legend(loc="outside lower center", ncols=min(7, len(classes)), handlelength=1.0)


# ------------------------------------------------------------------------------------------ parts


def draw_traces(
    axes: Axes,
    signal: Float[np.ndarray, "channel time"],
    ch_names: Sequence[str],
    sfreq: float,
    scale: int,
    start: float = 0.0,
    ink: str = _REAL,
) -> list[float]:
    """Draw channels from top to bottom, negative up, with a grid of seconds; returns the height of
    each row.
    """
    groups = chains(ch_names)
    place = [-(index + _CHAIN_GAP * g) for g, (_, group) in enumerate(groups) for index in group]
    seconds = start + np.arange(signal.shape[1]) / sfreq
    for row, trace in zip(place, signal, strict=True):
        axes.plot(seconds, row - (trace - np.median(trace)) / scale, color=ink, linewidth=0.7)
    axes.set_yticks(place, [short(name) for name in ch_names], fontsize=9)
    axes.set_ylim(place[-1] - 1, place[0] + 1)
    axes.set_xlim(seconds[0], seconds[-1] + 1 / sfreq)
    axes.set_xticks(
        np.arange(
            np.ceil(seconds[0]), seconds[-1] + 1, max(1, round((seconds[-1] - seconds[0]) / 15))
        )
    )
    axes.grid(axis="x", color="#BBBBBB", linewidth=0.6)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    return place


def draw_scale_bar(axes: Axes, scale: int) -> None:
    """A bar as high as ``scale`` µV at the lower right, outside the traces."""
    bottom = axes.get_ylim()[0] + 0.4
    across = axes.get_yaxis_transform()
    axes.plot(
        [1.012, 1.012],
        [bottom, bottom + 1],
        transform=across,
        color="black",
        linewidth=2.5,
        clip_on=False,
    )
    axes.text(1.022, bottom + 0.5, f"{scale} µV", transform=across, va="center", fontsize=10)


def draw_lanes(
    axes: Axes,
    true: pd.DataFrame,
    predicted: pd.DataFrame,
    shown: Sequence[str],
    colours: dict[str, str],
) -> None:
    """A lane for each class of event: annotated thick, predicted thin below it."""
    for lane, name in enumerate(shown):
        for events, top, height in ((true, 0.05, 0.45), (predicted, 0.6, 0.2)):
            spans = (
                events.loc[events["label"] == name, ["onset_s", "duration_s"]]
                .drop_duplicates()
                .to_numpy()
            )
            axes.broken_barh(
                list(map(tuple, spans)), (lane + top, height), color=colours[name], linewidth=0.8
            )
    if not shown:
        axes.text(
            0.5,
            0.5,
            "no event was annotated or predicted",
            transform=axes.transAxes,
            ha="center",
            va="center",
        )
    axes.set_ylim(max(1, len(shown)), 0)
    axes.set_yticks(np.arange(len(shown)) + 0.45, [short(name) for name in shown], fontsize=10)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
