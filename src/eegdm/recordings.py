"""What a model says of a recording: windows, probabilities, events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm import artifacts
from eegdm.data.windows import grid
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

    from eegdm.models.eegdm import EEGDM

WINDOWS_AT_ONCE = 16


class Prediction(NamedTuple):
    """Probabilities of every window and the events they make."""

    windows: pd.DataFrame  # onset_s, duration_s (the stretch that the window speaks for), one column per class
    events: pd.DataFrame  # onset_s, duration_s, label, probability
    signal: np.ndarray  # (channel, time), 100 µV, what the model was shown before companding
    ch_names: list[str]
    sfreq: float
    notes: list[str]


def predict(
    recording: mne.io.BaseRaw | str | Path,
    model: EEGDM | str | Path,
    *,
    step_s: float | None = None,
    threshold: float | None = None,
    missing: str = "error",
    device: str = "auto",
) -> Prediction:
    """Mark the events in a recording.

    Args:
        recording: an MNE Raw in volts, or a file that MNE reads. It is not changed.
        model: a classifier, or its folder, checkpoint or hub id.
        step_s: seconds from one window to the next; by default the stretch that a window speaks for.
        threshold: probability of all event classes together from which a window is an event; by default the model's own.
        missing: "error", or "drop" to leave out channels that the recording lacks.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: the recording can't be read, lacks channels, is too short, or can't be EEG in volts.
    """
    model = _classifier(model)
    try:
        prepared, ch_names = _prepare(recording, model, missing)
        windows, events = predict_signal(prepared.signal, ch_names, model, step_s=step_s, threshold=threshold, device=device)
    except UserError as error:
        raise UserError(f"{getattr(recording, 'filenames', [recording])[0]}: {error}") from error
    return Prediction(windows, events, prepared.signal, ch_names, prepared.sfreq, prepared.notes)


def predict_signal(
    signal: np.ndarray,
    ch_names: list[str],
    model: EEGDM,
    *,
    step_s: float | None = None,
    threshold: float | None = None,
    device: str = "auto",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the windows and events of a signal (channel, time) that was filtered as the model's recordings were, in 100 µV."""
    spoken_for = float(model.decision.get("resolution_s", model.n_times / model.sfreq))
    starts = grid(signal.shape[1], model.n_times, max(1, round((step_s or spoken_for) * model.sfreq)))
    if len(starts) == 0:
        raise UserError(f"{signal.shape[1] / model.sfreq:.1f} s long; this model looks at windows of {model.n_times / model.sfreq:g} s")
    logits = np.concatenate(list(_logits(signal, ch_names, starts, model, device)))
    windows = _window_table(starts, logits, model, spoken_for)
    return windows, find_events(windows, model.decision, threshold)


def _classifier(model: EEGDM | str | Path) -> EEGDM:
    from eegdm.models.eegdm import EEGDM
    from eegdm.pretrained import load

    loaded = model if isinstance(model, EEGDM) else load(model)  # type: ignore[arg-type]
    if not isinstance(loaded, EEGDM):
        raise UserError(f"{model}: is a backbone; predict needs a classifier")
    return loaded


def _prepare(recording: Any, model: EEGDM, missing: str) -> tuple[Any, list[str]]:
    from eegdm.data.montage import derive
    from eegdm.data.signal import Filtering, open_recording, preprocess

    raw = open_recording(Path(recording)) if isinstance(recording, str | Path) else recording
    settings = model.signal
    plan = derive(raw.ch_names, model.channels, missing)
    filtering = Filtering(model.sfreq, settings["highpass"], settings["lowpass"], tuple(settings["notch"]))
    return preprocess(raw, plan, filtering), [d.name for d in plan]


def _logits(signal: np.ndarray, ch_names: list[str], starts: np.ndarray, model: EEGDM, device: str) -> Iterator[np.ndarray]:
    import torch

    from eegdm.data.signal import compand

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    model = model.to(device).eval()
    columns = [model.channels.index(name) for name in ch_names]
    mu = model.signal["mu"]
    mask = torch.zeros(1, len(model.channels), dtype=torch.bool)
    mask[:, columns] = True
    with torch.inference_mode():
        for some in np.array_split(starts, -(-len(starts) // WINDOWS_AT_ONCE)):
            cut = np.stack([signal[:, s : s + model.n_times] for s in some])
            data = torch.zeros(len(some), len(model.channels), model.n_times)
            data[:, columns] = torch.from_numpy(compand(cut, mu) if mu else cut)
            yield model(data.to(device), mask.expand(len(some), -1).to(device)).float().cpu().numpy()


def _window_table(starts: np.ndarray, logits: np.ndarray, model: EEGDM, spoken_for: float) -> pd.DataFrame:
    from eegdm.metrics import class_probabilities

    decision = model.decision
    classes = decision.get("classes") or list(model.classes)
    probability = class_probabilities(logits, decision.get("temperature", 1.0))
    onset = starts / model.sfreq + (model.n_times / model.sfreq - spoken_for) / 2
    return pd.DataFrame({"onset_s": onset, "duration_s": spoken_for, **{name: probability[:, i] for i, name in enumerate(classes)}})


def find_events(windows: pd.DataFrame, decision: dict[str, Any], threshold: float | None = None) -> pd.DataFrame:
    """Join neighbouring windows of one event class into events: onset_s, duration_s, label, probability (its highest).

    A window is an event if the event classes together reach the threshold; its label is the likeliest of them.
    """
    names = decision.get("event_classes") or list(windows.columns[2:])
    limit = decision.get("threshold", 0.5) if threshold is None else threshold
    probability = windows[names].to_numpy()
    width = max(1, round(decision.get("smoothing_s", 0.0) / _step(windows)))
    smooth = np.stack([np.convolve(p, np.ones(width) / width, mode="same") for p in probability.T], axis=1)
    label = np.where(smooth.sum(1) >= limit, smooth.argmax(1), -1)
    edges = np.flatnonzero(np.diff(label, prepend=-2, append=-2))
    found = []
    for first, stop in zip(edges[:-1], edges[1:], strict=True):
        if label[first] >= 0:
            onset, last = windows.onset_s.iloc[first], windows.iloc[stop - 1]
            found.append(
                (onset, last.onset_s + last.duration_s - onset, names[label[first]], float(smooth[first:stop, label[first]].max()))
            )
    events = pd.DataFrame(found, columns=["onset_s", "duration_s", "label", "probability"])
    return events[events.duration_s >= decision.get("min_duration_s", 0.0) - 1e-9].reset_index(drop=True)


def _step(windows: pd.DataFrame) -> float:
    return float(windows.onset_s.diff().median()) if len(windows) > 1 else float(windows.duration_s.iloc[0])


def annotate(recording: mne.io.BaseRaw, model: EEGDM | str | Path, **options: Any) -> mne.Annotations:
    """Return the events of :func:`predict` as MNE annotations of the recording."""
    import mne

    events = predict(recording, model, **options).events
    return mne.Annotations(events.onset_s, events.duration_s, events.label, orig_time=recording.info["meas_date"])


def write_prediction(file: Path, model: str, out: Path | None = None, **options: Any) -> list[Path]:
    """Write what :func:`predict` finds beside the file, or into ``out``: *_events.tsv (SzCORE's columns), *_probabilities.parquet."""
    result = predict(file, model, **options)
    folder = Path(out) if out is not None else Path(file).parent
    stem = Path(file).stem
    tsv, table = folder / f"{stem}_events.tsv", folder / f"{stem}_probabilities.parquet"
    length = result.signal.shape[1] / result.sfreq
    with artifacts.atomic_path(tsv) as temporary:
        szcore_table(result.events, length).to_csv(temporary, sep="\t", index=False)
    artifacts.write_table(table, result.windows)
    return [tsv, table]


def szcore_table(events: pd.DataFrame, recording_s: float) -> pd.DataFrame:
    """Return events in the columns of SzCORE's BIDS dialect; a recording without events is one row `bckg`."""
    if events.empty:
        events = pd.DataFrame({"onset_s": [0.0], "duration_s": [recording_s], "label": ["bckg"], "probability": [np.nan]})
    return pd.DataFrame({
        "onset": events.onset_s.round(4), "duration": events.duration_s.round(4), "eventType": events.label,
        "confidence": events.probability.round(4).astype(object).where(events.probability.notna(), "n/a"), "channels": "all",
        "dateTime": "n/a", "recordingDuration": round(recording_s, 4)})  # fmt: skip
