"""The page that `eegdm predict` writes of a recording: what was found, where, in how good a signal,
and by which model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from eegdm import __version__
from eegdm.console import clock
from eegdm.evaluation.decision import RECORDING, RecordingDecision, Rule, smoothed
from eegdm.inference.prediction import Prediction
from eegdm.inference.prediction_figures import timeline, traces
from eegdm.inference.prediction_files import NO_DEVICE
from eegdm.inference.preparation import Prepared
from eegdm.inference.surprise_figures import surprise_map
from eegdm.report.charts import GREY, colour
from eegdm.report.pages import Element, Picture, Points, Section, Table, Text, write_html
from eegdm.report.traces import POLARITY

if TYPE_CHECKING:
    from eegdm.models.eegdm import EEGDM

SHOWN = 6  # events drawn as traces
LISTED = 60  # events in the table; all are in the TSV file
STRETCH_S, LEAD_S = 12.0, 3.0  # of a drawn event: what is shown, and from how long before it
FLAT, CLIPPED, HUM_UV = 0.05, 0.01, 10.0  # shares and amplitude from which a channel is pointed out


def write_page(
    path: Path, name: str, prediction: Prediction, prepared: Prepared, model: EEGDM, rule: Rule
) -> None:
    """Write a self-contained HTML page about the recording called ``name``."""
    decision = prediction.decision
    parts = {
        "Result": (
            _result(name, prediction, rule)
            if decision is None
            else _decided(name, prediction, decision)
        ),
        "The whole recording": _whole_recording(prediction, rule),
        **(
            {
                "The strongest events": _strongest(prediction, prepared, rule),
                "List of events": _event_list(prediction),
            }
            if decision is None
            else {"The strongest window": _strongest_window(prediction, decision, prepared, rule)}
        ),
        "Surprise": _surprise_section(prediction),
        "Signal quality": _quality(prediction),
        "What was done to the signal": what_was_done(prediction.steps, prediction.notes),
        "Rule and model": _model(model, rule),
    }
    # Parts without an element have no heading.
    filled = {title: list(elements) for title, elements in parts.items()}
    write_html(
        path,
        f"Events in {name}" if decision is None else f"{name}: {decision.label}",
        [Section(title, elements) for title, elements in filled.items() if elements],
    )


def _result(name: str, prediction: Prediction, rule: Rule) -> Iterator[Element]:
    yield Text(NO_DEVICE)
    length = f"{name} lasts {clock(prediction.duration_s)}"
    counts = prediction.events.label.value_counts()
    seconds = prediction.events.groupby("label").duration_s.sum()
    if prediction.events.empty:
        yield Text(
            f"{length}. No event was found: no stretch of it is {_or(rule.event_classes)} with a"
            f" probability of {rule.threshold:.2f} or more for at least {rule.min_duration_s:g} s."
        )
        return
    yield Text(f"{length}. {_n_events_found(len(prediction.events))} found.")
    rows = [
        [
            label,
            str(counts[label]),
            f"{seconds[label]:.1f} s",
            f"{100 * seconds[label] / prediction.duration_s:.1f} %",
        ]
        for label in rule.event_classes
        if label in counts
    ]
    yield Table(["class", "events", "together", "of the recording"], rows)


def _decided(name: str, prediction: Prediction, decision: RecordingDecision) -> Iterator[Element]:
    yield Text(f"{name}: {decision.sentence()}.")
    yield Text(NO_DEVICE)
    yield Text(
        f"The recording lasts {clock(prediction.duration_s)}. The model decides about whole"
        " recordings: its class is that of the highest probability, mean over all windows. The mean"
        " is not a share of time."
    )
    rows = [[label, f"{value:.3f}"] for label, value in decision.probability.items()]
    yield Table(["class", "mean probability"], rows)


def _n_events_found(n: int) -> str:
    return "1 event was" if n == 1 else f"{n} events were"


def _or(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _whole_recording(prediction: Prediction, rule: Rule) -> Iterator[Element]:
    caption = "Bars: the events." if prediction.decision is None else "Bar: the recording's class."
    caption += " Below: how probable the model holds each event class at each time, stacked"
    caption += ", smoothed as for the rule." if prediction.decision is None else "."
    if (unjudged := float(prediction.windows.onset_s.iloc[0])) > 0:
        caption += (
            f" A window speaks for its middle only, so nothing is said of the first {unjudged:g} s,"
            " nor of as much at the end."
        )
    yield Picture(
        timeline(prediction.windows, prediction.events, rule, prediction.duration_s),
        _timeline_words(prediction),
        caption,
        wide=True,
    )


def _timeline_words(prediction: Prediction) -> str:
    return (
        f"Timeline of {clock(prediction.duration_s)} with {len(prediction.events)} events and the"
        " probabilities of the event classes"
    )


def _strongest(prediction: Prediction, prepared: Prepared, rule: Rule) -> Iterator[Element]:
    if prediction.events.empty:
        yield Text(
            "There is none. The stretch that is most like one, though below the rule, is this."
            f" {POLARITY}"
        )
        yield _picture(_most_like_an_event(prediction, rule), prepared, "Not an event", GREY)
        return
    strongest = _by_probability(prediction).head(SHOWN)
    yield Text(
        f"{len(strongest)} of {len(prediction.events)}, by their highest probability, in the"
        f" filtered signal that the model saw. The event is shaded. {POLARITY}"
    )
    for number, (_, event) in enumerate(strongest.iterrows(), 1):
        ink = colour(rule.event_classes.index(event.label))
        yield _picture(event, prepared, str(number), ink)


def _strongest_window(
    prediction: Prediction, decision: RecordingDecision, prepared: Prepared, rule: Rule
) -> Iterator[Element]:
    label = decision.label
    yield Text(
        f"Of all windows, the one that is most probably {label}, in the filtered signal that the"
        f" model saw. {POLARITY}"
    )
    window = prediction.windows.iloc[int(prediction.windows[label].argmax())]
    shown = window[["onset_s", "duration_s"]]
    event = pd.concat([shown, pd.Series({"label": label, "probability": window[label]})])
    is_event = label in rule.event_classes
    ink = colour(rule.event_classes.index(label)) if is_event else GREY
    yield _picture(event, prepared, "Window", ink)


def _by_probability(prediction: Prediction) -> pd.DataFrame:
    """The events, strongest first."""
    return prediction.events.sort_values("probability", ascending=False, kind="stable")


def _most_like_an_event(prediction: Prediction, rule: Rule) -> pd.Series:
    probability = smoothed(prediction.windows, rule)
    best = int(probability.sum(axis=1).argmax())
    window = prediction.windows.iloc[best]
    label = int(probability[best].argmax())
    return pd.Series(
        {
            "onset_s": window.onset_s,
            "duration_s": window.duration_s,
            "label": rule.event_classes[label],
            "probability": probability[best, label],
        }
    )


def _picture(event: pd.Series, prepared: Prepared, lead: str, ink: str) -> Picture:
    # Near the end of the recording the stretch is moved back, so that it stays as long.
    last = max(prepared.n_times / prepared.sfreq - STRETCH_S, 0)
    start = round(float(np.clip(event.onset_s - LEAD_S, 0, last)) * prepared.sfreq)
    microvolts = 100 * prepared.read(start, start + round(STRETCH_S * prepared.sfreq))
    figure = traces(
        microvolts, prepared.ch_names, prepared.sfreq, start / prepared.sfreq, event, ink
    )
    words = (
        f"{lead}: {event.label} at {clock(event.onset_s)}, {event.duration_s:.1f} s long,"
        f" probability {event.probability:.2f}"
    )
    shown = (
        f". Its first {STRETCH_S - LEAD_S:.0f} s are shown"
        if event.duration_s > STRETCH_S - LEAD_S
        else ""
    )
    return Picture(figure, words, f"{words}{shown}.", wide=True)


def _event_list(prediction: Prediction) -> Iterator[Element]:
    if prediction.events.empty:
        return
    strongest = _by_probability(prediction).head(LISTED).sort_values("onset_s")
    left = len(prediction.events) - len(strongest)
    caption = (
        f"The {len(strongest)} strongest, in order of time; all {len(prediction.events)} are in"
        " the TSV file."
        if left
        else ""
    )
    rows = [
        [
            clock(e.onset_s),
            f"{e.onset_s:.2f}",
            f"{e.duration_s:.2f}",
            str(e.label),
            f"{e.probability:.2f}",
        ]
        for e in strongest.itertuples()
    ]
    yield Table(["time", "onset, s", "duration, s", "class", "probability"], rows, caption)


def _surprise_section(prediction: Prediction) -> Iterator[Element]:
    if not len(prediction.surprise):
        return
    yield Text(
        "Where the power of a channel's frequency bands is unlike its usual power in this"
        " recording, whatever the classes of the model; eegdm surprise shows the strangest seconds"
        " as traces."
    )
    yield Picture(
        surprise_map(prediction.surprise, prediction.ch_names, prediction.duration_s),
        f"Surprise of {len(prediction.ch_names)} channels over {clock(prediction.duration_s)}",
        wide=True,
    )


def _quality(prediction: Prediction) -> Iterator[Element]:
    hum = prediction.quality.mains_hz.dropna()
    header = [
        "channel",
        "flat",
        "clipped",
        "spread, µV",
        f"hum at {hum.iloc[0]:g} Hz, µV" if len(hum) else "hum",
        "note",
    ]
    rows, noted = [], []
    for index, q in enumerate(prediction.quality.itertuples()):
        notes = _faults(q)
        noted += [index] if notes else []
        mains = "not measured" if np.isnan(q.mains_uv) else f"{q.mains_uv:.1f}"
        rows.append(
            [
                q.channel,
                f"{100 * q.flat:.1f} %",
                f"{100 * q.clipped:.2f} %",
                f"{q.spread_uv:.1f}",
                mains,
                ", ".join(notes),
            ]
        )
    yield Text(
        "Flat: share of the seconds in which an electrode of the channel does not move at all."
        " Clipped: share of the samples at an electrode's largest or smallest value, which is near"
        " 0 unless the amplifier cuts off. Spread: robust standard deviation after the filters."
        " Hum: root mean square of the mains in the recording as it is, before the filters; what"
        " was notched is said below."
    )
    yield Text(
        f"{len(noted)} of {len(rows)} channels are pointed out."
        if noted
        else "No channel is pointed out."
    )
    yield Table(header, rows, strong=frozenset(noted))


def _faults(q: Any) -> list[str]:
    faults = {"flat": q.flat >= FLAT, "clipped": q.clipped >= CLIPPED, "hum": q.mains_uv >= HUM_UV}
    return [name for name, is_so in faults.items() if is_so]


def what_was_done(steps: Sequence[str], notes: Sequence[str]) -> Iterator[Element]:
    """Yield the steps of a preparation, numbered, and what a reader must know of it."""
    yield Points([(str(number), step) for number, step in enumerate(steps, 1)])
    if notes:
        yield Text("To be noted:")
        yield Points([("note", note) for note in notes])


def _model(model: EEGDM, rule: Rule) -> Iterator[Element]:
    window_s = model.n_times / model.sfreq
    yield Points(
        [
            *_rule(rule),
            ("calibration", f"logits are divided by {rule.temperature:.3g}"),
            (
                "windows",
                f"{window_s:g} s long; each speaks for the {rule.resolution_s:g} s in its middle",
            ),
            ("classes", ", ".join(rule.classes)),
            ("channels", ", ".join(model.channels)),
            ("size", f"{sum(p.numel() for p in model.parameters()):,} parameters"),
            ("written by", f"eegdm {__version__}"),
        ]
    )
    facts = [
        (name, _fact(model.info[name]))
        for name in ("data", "recipe", "metrics", "licence", "source")
        if model.info.get(name)
    ]
    if facts:
        yield Text("What its model card says:")
        yield Points(facts)


def _rule(rule: Rule) -> list[tuple[str, str]]:
    if rule.decide == RECORDING:
        return [("decision", "the class of the highest mean probability over all windows")]
    event = (
        f"neighbouring windows in which {_or(rule.event_classes)} together reach a probability of"
        f" {rule.threshold:.2f}"
    )
    averaged = f"probabilities are averaged over {rule.smoothing_s:g} s"
    return [
        ("an event", event),
        ("shortest event", f"{rule.min_duration_s:g} s"),
        ("smoothing", averaged if rule.smoothing_s else "none"),
    ]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in value.items()
        )
    return str(value)
