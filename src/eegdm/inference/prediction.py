"""A classifier applied to one recording: probabilities of its windows, and events."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eegdm import artifacts
from eegdm.checkpoints.load import load_classifier
from eegdm.data.signal import robust_spread
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.evaluation.decision import (
    RecordingDecision,
    Rule,
    apply_rule,
    rule_of,
    window_table,
)
from eegdm.evaluation.surprise import LEAST_SFREQ, Population, surprise_of
from eegdm.inference.chunks import (
    BATCH_SIZE,
    classifier_logits,
    iter_chunks,
    reference_of_signal,
    runs_of_windows,
)
from eegdm.inference.preparation import (
    PreparationSettings,
    Prepared,
    Treatment,
    as_raw,
    display_name,
    prepare,
    signal_settings,
)
from eegdm.inference.surprising import population_notes, powers_of
from eegdm.processes import pick_device

if TYPE_CHECKING:
    import mne
    import torch

    from eegdm.models.eegdm import EEGDM

REFERENCE = "reference.npy"
"""In the folder of unfinished work: what tokens are centred by."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a recording is read and when windows make an event; what is None is as the model has it.

    Attributes:
        step_s: seconds from one window to the next; by default the stretch that a window speaks
            for.
        threshold: probability, 0 to 1, from which a window belongs to an event; it is compared with
            the sum over the event classes.
        min_duration_s: length in seconds below which an event is dropped.
        smoothing_s: length in seconds over which probabilities are averaged; 0 for none.
        temperature: what logits are divided by.
        event_classes: names of the classes that make events.
        decide: "events" marks stretches; "recording" gives the whole recording one class, the
            likeliest by the mean probability of its windows. By default "recording" if the model
            learned from labels of whole recordings.
        channels: "montage" derives the model's channels; "file" takes the file's own as they are,
            each for the nearest of the model's by electrode position. The model learned from those
            of the montage: expect less of it. A model that learned from a file's own channels finds
            these by name, and this changes nothing.
        missing: "error", "drop" or "interpolate" (spherical splines, referential recordings) for
            channels that can't be derived.
        rate: "resample" to the model's sampling rate, or "native": stay at the recording's, 100 to
            1000 Hz.
        unit: what the recording's numbers are in (V, mV or uV), above what it says.
        notch: Hz to notch in place of the model's frequencies; "auto": 50 or 60 Hz by the
            recording's own hum.
        device: auto, cpu, cuda or mps.
        batch_size: windows that the model takes at once; changes time and memory only.
        calibration: for a classifier of centred tokens, another recording of the same person (an
            MNE Raw in volts, or a file) to say what is usual for that person; by default the
            recording itself does.
    """

    step_s: float | None = None
    threshold: float | None = None
    min_duration_s: float | None = None
    smoothing_s: float | None = None
    temperature: float | None = None
    event_classes: tuple[str, ...] | None = None
    decide: str | None = None
    channels: str = "montage"
    missing: str = "error"
    rate: str = "resample"
    unit: str | None = None
    notch: tuple[float, ...] | str | None = None
    device: str = "auto"
    batch_size: int = BATCH_SIZE
    calibration: mne.io.BaseRaw | str | Path | None = None

    def __post_init__(self) -> None:
        if self.step_s is not None and not 0 < self.step_s < np.inf:
            raise UserError(
                f"step={self.step_s:g}: seconds from one window to the next are above 0"
            )
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size}: at least 1 window is taken at once")

    @property
    def rule(self) -> dict[str, Any]:
        """The part that changes the model's rule."""
        return {
            name: getattr(self, name)
            for name in (
                "threshold",
                "min_duration_s",
                "smoothing_s",
                "temperature",
                "event_classes",
                "decide",
            )
        }

    @property
    def content(self) -> dict[str, Any]:
        """The part that the logits depend on."""
        return {
            name: getattr(self, name)
            for name in ("step_s", "channels", "missing", "rate", "unit", "notch")
            if name not in ("unit", "notch") or getattr(self, name) is not None
        }


class Prediction(NamedTuple):
    """Probabilities of every window, the events they make, and what a reader must know of the
    recording. Times are seconds from the first sample.

    Attributes:
        windows: a row per window: onset_s and duration_s (of the stretch that it speaks for), and a
            column per class with its probability.
        events: a row per event: onset_s, duration_s, label, probability. Where there is a decision,
            the whole recording is the event, if its class is an event class.
        quality: a row per channel, see :func:`quality_table`.
        ch_names: the channels that the model was shown.
        duration_s: length of the recording.
        steps: what was done to the signal, in the order of doing.
        notes: what a reader of the result must know.
        surprise: see `eegdm.inference.surprising`; no seconds below 100 Hz.
        decision: label, probability of each class and n_windows of the recording as a whole; None
            where the model marks stretches.
    """

    windows: pd.DataFrame
    events: pd.DataFrame
    quality: pd.DataFrame
    ch_names: list[str]
    duration_s: float
    steps: list[str]
    notes: list[str]
    surprise: Float[ndarray, "second channel"]
    decision: RecordingDecision | None


def predict(
    recording: mne.io.BaseRaw | str | Path, model: EEGDM | str | Path, **options: Any
) -> Prediction:
    """Mark the events in a recording of any length, or decide about the whole of it, in bounded
    memory.

    Args:
        recording: an MNE Raw in volts, or a file that MNE reads. It is not changed.
        model: a classifier, or its folder, checkpoint or hub id.
        options: those of :class:`Options`, by name.

    Returns:
        Windows, events and what is to be known of the recording, see :class:`Prediction`.

    Raises:
        UserError: the recording can't be read, lacks channels, is too short, or can't be EEG in
            volts; the model can't be read or is not a classifier; an option is out of range.
        TypeError: an option is unknown.
    """
    chosen, classifier = Options(**options), load_classifier(model)
    with tempfile.TemporaryDirectory(prefix="eegdm-") as folder:
        return predict_in(Path(folder), recording, classifier, chosen)[0]


def annotate(
    recording: mne.io.BaseRaw | str | Path,
    model: EEGDM | str | Path,
    keep: bool | None = None,
    **options: Any,
) -> mne.Annotations:
    """Return the events of :func:`predict` as MNE annotations, ready for ``raw.set_annotations``.

    Args:
        recording: an MNE Raw in volts, or a file that MNE reads. It is not changed.
        model: a classifier, or its folder, checkpoint or hub id.
        keep: also return the annotations that the recording holds already. None, the default, is
            False, except that it is refused where adding the result to ``raw.annotations`` would
            move these: MNE adds ``raw.first_time`` to all annotations that are set on a recording
            without a measurement date.
        options: those of :class:`Options`, by name.

    Returns:
        Onset and duration in seconds and the class of each event; with ``keep`` the recording's own
        too.

    Raises:
        UserError: what :func:`predict` raises, or the recording is one of those and ``keep`` is
            not stated.
    """
    raw = as_raw(recording, options.pop("unit", None))
    if keep is None and raw.info["meas_date"] is None and raw.first_samp and len(raw.annotations):
        raise UserError(
            f"{display_name(recording)}: has no measurement date and begins at"
            f" {raw.first_time:.2f} s, so that MNE would move its own annotations when they are set"
            " again; call annotate with keep=True and give the result to raw.set_annotations, or"
            " keep=False for the events alone"
        )
    events = predict(raw, model, **options).events
    return annotations_with(events, raw) if keep else as_annotations(events, raw)


def as_annotations(events: pd.DataFrame, raw: mne.io.BaseRaw) -> mne.Annotations:
    """Return a table of events, whose onsets count from the first sample, as annotations that
    ``raw.set_annotations`` puts at these samples.
    """
    import mne

    # With a date MNE counts from it, that is from first_time before the first sample; without one
    # it adds first_time itself.
    start_s = raw.first_time if raw.info["meas_date"] is not None else 0.0
    return mne.Annotations(
        events.onset_s + start_s, events.duration_s, events.label, orig_time=raw.info["meas_date"]
    )


def annotations_with(events: pd.DataFrame, raw: mne.io.BaseRaw) -> mne.Annotations:
    """Return a recording's own annotations and a table of events, for ``raw.set_annotations``."""
    annotations = raw.annotations.copy()
    if raw.info["meas_date"] is None:
        # set_annotations adds it again.
        annotations.onset -= raw.first_time
    return annotations + as_annotations(events, raw)


def predict_in(
    folder: Path,
    recording: mne.io.BaseRaw | str | Path,
    model: EEGDM,
    options: Options,
    progress: bool = False,
) -> tuple[Prediction, Prepared]:
    """Do what :func:`predict` does, keeping signal and finished chunks in ``folder``, from which a
    killed run resumes.
    """
    rule = rule_of(model, **options.rule)
    refuse_unused_calibration(model, options)
    try:
        raw = as_raw(recording, options.unit, model.taken_for or model.channels)
        prepared = prepare(raw, preparation_settings(model, options), folder, progress)
        windows = _grid(prepared.n_times, prepared.sfreq, model, rule, options.step_s)
        slots, spread = slots_of(model, prepared), prepared.spread()
        device = pick_device(options.device)
        reference = _reference(folder, model, prepared, options)
        chunks = iter_chunks(
            lambda chunk: classifier_logits(
                model, chunk, prepared.read, spread, slots, device, options.batch_size, reference
            ),
            windows,
            folder,
            "windows" if progress else None,
        )
        table = window_table(windows, np.concatenate(list(chunks)), rule)
    except UserError as error:
        name = display_name(recording)
        # Readers of files name theirs already; faults found later know of none.
        if str(error).startswith(name):
            raise
        raise UserError(f"{name}: {error}") from error
    surprise, unlike = _surprise(model, prepared)
    notes = [*prepared.notes, *_model_notes(model, options), *unlike]
    decision, events = apply_rule(table, rule, prepared.duration_s)
    prediction = Prediction(
        table,
        events,
        quality_table(prepared),
        prepared.ch_names,
        prepared.duration_s,
        prepared.steps,
        notes,
        surprise,
        decision,
    )
    return prediction, prepared


def predict_signal(
    signal: Float[ndarray, "channel time"],
    ch_names: list[str],
    model: EEGDM,
    device: str = "auto",
    reference: torch.Tensor | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the windows and events of a signal that was filtered as the model's recordings were,
    in 100 µV, at the model's rate; channels that the model does not have are left out. A classifier
    of centred tokens needs their ``reference``.
    """
    rule = rule_of(model)
    windows = _grid(signal.shape[1], model.sfreq, model, rule, None)
    kept = [k for k, name in enumerate(ch_names) if name in model.channels]
    slots = [model.channels.index(ch_names[k]) for k in kept]
    torch_device, own = pick_device(device), signal[kept]
    spread = robust_spread(own)
    logits = [
        classifier_logits(
            model,
            chunk,
            lambda a, b: own[:, a:b],
            spread,
            slots,
            torch_device,
            reference=reference,
        )
        for chunk in runs_of_windows(windows)
    ]
    table = window_table(windows, np.concatenate(logits), rule)
    return table, apply_rule(table, rule, signal.shape[1] / model.sfreq)[1]


def refuse_unused_calibration(model: EEGDM, options: Options) -> None:
    """Refuse a calibration that the classifier has no use for."""
    if model.centre is None and options.calibration is not None:
        raise UserError(
            f"calibration={display_name(options.calibration)}: this classifier's tokens are not"
            " centred; leave it out"
        )


def preparation_settings(model: EEGDM, options: Options) -> PreparationSettings:
    """Return what is done to a recording for this classifier.

    Raises:
        UserError: rate=native with a model that repeats the published error of sampling rates.
    """
    if options.rate == "native" and model.compat == "published":
        raise UserError(
            "rate=native: this model has compat=published, which scales time wrongly at other rates"
            " than 200 Hz"
        )
    return PreparationSettings(
        model.channels,
        signal_settings(model.signal),
        options.missing,
        options.rate,
        options.channels,
        model.taken_for,
        one_file_channel_per_model_channel=True,
        unit=options.unit,
        notch=options.notch,
    )


def quality_table(prepared: Prepared) -> pd.DataFrame:
    """Return a row per channel: channel, flat and clipped (shares of the time), spread_uv (robust
    standard deviation after the filters), mains_hz, mains_uv (root mean square of the hum before
    the filters; missing where it can't be measured).
    """
    table = pd.DataFrame(prepared.quality).rename(columns={"name": "channel"})
    noise = prepared.line_noise
    return table.assign(
        mains_hz=np.nan if noise is None else noise.mains_hz,
        mains_uv=np.nan if noise is None else noise.rms_uv,
    )


def _grid(n_times: int, sfreq: float, model: EEGDM, rule: Rule, step_s: float | None) -> WindowGrid:
    return WindowGrid.cover(
        n_times, sfreq, model.n_times / model.sfreq, step_s or rule.resolution_s
    )


def _surprise(
    model: EEGDM, prepared: Prepared
) -> tuple[Float[ndarray, "second channel"], list[str]]:
    """Return how unusual each second is in its channel, and a note where the signal is unlike what
    the model learned from; no seconds where the rate is too low for that.
    """
    if prepared.sfreq < LEAST_SFREQ:
        return np.empty((0, len(prepared.ch_names)), np.float32), []
    powers = powers_of(prepared, signal_settings(model.signal).mu)
    population = Population.from_info(model.info)
    notes = [] if population is None else population_notes(population.distance(powers), population)
    return surprise_of(powers), notes


def slots_of(model: EEGDM, recording: Prepared | Treatment) -> list[int]:
    """For each channel of a recording its place among the model's."""
    names = recording.taken_for if model.taken_for is None else recording.ch_names
    return [model.channels.index(name) for name in names]


def _reference(
    folder: Path, model: EEGDM, prepared: Prepared, options: Options
) -> torch.Tensor | None:
    """What the tokens of a recording are centred by, kept in ``folder``; None if they are not.

    Raises:
        UserError: the recording is too short for it; or the calibration can't be read, or lacks a
            channel of the recording.
    """
    import torch

    if model.centre is None:
        return None
    kept = folder / REFERENCE
    if not kept.is_file():
        reference = (
            _reference_of(model, prepared, options)
            if options.calibration is None
            else calibrated_reference(folder, options.calibration, model, prepared, options)
        )
        artifacts.write_array(kept, reference.numpy())
    return torch.from_numpy(np.load(kept, allow_pickle=False))


def calibrated_reference(
    folder: Path,
    calibration: mne.io.BaseRaw | str | Path,
    model: EEGDM,
    recording: Prepared | Treatment,
    options: Options,
) -> torch.Tensor:
    """What tokens are centred by, from another recording of the person, prepared in ``folder``.

    Raises:
        UserError: the calibration can't be read, or lacks a channel of the recording.
    """
    name = display_name(calibration)
    try:
        prepared = _prepare_calibration(folder, calibration, model, recording, options)
        return _reference_of(model, prepared, options)
    except UserError as error:
        fault = str(error).removeprefix(f"{name}: ")
        raise UserError(f"calibration={name}: {fault}") from error


def _reference_of(model: EEGDM, prepared: Prepared, options: Options) -> torch.Tensor:
    return reference_of_signal(
        model,
        WindowGrid.reference(prepared.n_times, prepared.sfreq, model.n_times / model.sfreq),
        prepared.read,
        prepared.spread(),
        slots_of(model, prepared),
        pick_device(options.device),
    )


def _prepare_calibration(
    folder: Path,
    recording: mne.io.BaseRaw | str | Path,
    model: EEGDM,
    other: Prepared | Treatment,
    options: Options,
) -> Prepared:
    """Prepare the recording that says what is usual for the person, as the other one was."""
    raw = as_raw(recording, options.unit, model.taken_for or model.channels)
    (folder / "calibration").mkdir(exist_ok=True)
    found = prepare(raw, preparation_settings(model, options), folder / "calibration")
    slots = slots_of(model, found)
    lacking = [
        name
        for name, slot in zip(other.ch_names, slots_of(model, other), strict=True)
        if slot not in slots
    ]
    if lacking:
        raise UserError(
            f"lacks {', '.join(lacking)}, which the recording has; give another recording of the"
            " same person"
        )
    return found


def _model_notes(model: EEGDM, options: Options) -> list[str]:
    notes = []
    if model.signal.get("per_window"):
        notes.append(
            "the model learned from windows that were filtered one by one; here the whole recording"
            " is filtered"
        )
    if model.centre is not None and options.calibration is not None:
        notes.append(
            "tokens are centred by windows spread over the calibration recording"
            f" {Path(display_name(options.calibration)).name}, which has to be of the same person"
        )
    elif model.centre is not None:
        notes.append(
            "tokens are centred by windows spread over this recording; what stays the same"
            " throughout it is not seen"
        )
    if model.centre == "subject" and options.calibration is None:
        notes.append(
            "the model learned from tokens that are centred over all recordings of a person; if"
            " this recording holds one class alone, name another of the same person as the"
            " calibration"
        )
    return notes
