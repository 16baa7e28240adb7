"""Surprise: how unlike the rest of a recording each second of each channel is, and how unlike the
EEG that a model learned from.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eegdm.data.signal import to_model_units
from eegdm.errors import UserError
from eegdm.evaluation.baselines import BANDS
from eegdm.evaluation.surprise import Population, log_powers, scaled, surprise_of
from eegdm.inference.preparation import (
    PreparationSettings,
    Prepared,
    as_raw,
    display_name,
    prepare,
    signal_settings,
)

if TYPE_CHECKING:
    import mne

    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

N_STRETCHES = 6
WARN_SHARE = 0.25
"""Share of the channel-seconds outside the model's population from which a reader is warned."""
_READ_S = 60  # what is in memory at a time
_APART_S = 6  # from the middle of one of the strangest stretches to that of another, at least
_LONGEST_S = 5  # that a stretch reaches to either side of its strangest second


@dataclass(frozen=True, kw_only=True)
class SurpriseOptions:
    """How a recording is read.

    Attributes:
        channels, missing, unit, notch: as in :class:`eegdm.inference.prediction.Options`.
    """

    channels: str = "montage"
    missing: str = "error"
    unit: str | None = None
    notch: tuple[float, ...] | str | None = None


class Surprise(NamedTuple):
    """What is unusual where.

    ``seconds`` has a row for each second of each channel: onset_s, duration_s, channel, surprise
    (root mean square, over five frequency bands, of the robust z-scores of the log power within the
    channel's recording), band (the one that deviates most), change_db (by how much its power
    deviates from the channel's median), population (distance from the EEG that the model learned
    from; 99 % of that EEG is below 1; missing if the model does not describe it).

    ``stretches`` are the strangest, in order of surprise: onset_s, duration_s, channel, surprise,
    band, change_db, of the strangest second and channel in each.
    """

    seconds: pd.DataFrame
    stretches: pd.DataFrame
    ch_names: list[str]
    duration_s: float
    steps: list[str]
    notes: list[str]


def surprise(
    recording: mne.io.BaseRaw | str | Path,
    model: SSMDP | EEGDM | str | Path = "mini",
    **options: Any,
) -> Surprise:
    """Return how unusual each second of each channel is, without labels and in bounded memory.

    Args:
        recording: an MNE Raw in volts, or a file that MNE reads. It is not changed.
        model: a backbone or a classifier, or its folder, checkpoint or hub id. Its channels and
            filters are used, and what its `config.json` says of the EEG that it learned from; its
            weights are not.
        options: those of :class:`SurpriseOptions`.

    Raises:
        UserError: the recording can't be read, lacks channels, is too short, or can't be EEG in
            volts.
    """
    with tempfile.TemporaryDirectory(prefix="eegdm-") as folder:
        return surprise_in(Path(folder), recording, model, SurpriseOptions(**options))[0]


def surprise_in(
    folder: Path,
    recording: mne.io.BaseRaw | str | Path,
    model: Any,
    options: SurpriseOptions,
    progress: bool = False,
) -> tuple[Surprise, Prepared]:
    """Do what :func:`surprise` does, keeping the signal in ``folder``, from which a killed run
    resumes.
    """
    settings, population = reading_of(model, options)
    name = display_name(recording)
    try:
        raw = as_raw(recording, options.unit, settings.channels)
        prepared = prepare(raw, settings, folder, progress)
        powers = powers_of(prepared, settings.signal.mu)
        if len(powers) < 2:
            raise UserError(
                f"{prepared.duration_s:.1f} s long; surprise compares the seconds of a recording"
                " with each other and needs 2 or more"
            )
    except UserError as error:
        if str(error).startswith(name):
            raise
        raise UserError(f"{name}: {error}") from error
    beyond, warning = None, list[str]()
    if population is not None:
        beyond = population.distance(powers)
        warning = population_notes(beyond, population)
    seconds = _table(powers, beyond, prepared.ch_names)
    found = Surprise(
        seconds,
        strangest(seconds, len(prepared.ch_names)),
        prepared.ch_names,
        prepared.duration_s,
        prepared.steps,
        [*prepared.notes, *warning],
    )
    return found, prepared


def reading_of(
    model: Any, options: SurpriseOptions
) -> tuple[PreparationSettings, Population | None]:
    """Return how recordings are read for a model, and the EEG that it learned from."""
    from eegdm.checkpoints.load import load_backbone, load_model
    from eegdm.data.montage import TCP
    from eegdm.models.eegdm import EEGDM

    loaded = load_model(model)
    backbone = load_backbone(loaded)
    known = TCP[: backbone.config["n_channel_ids"]]
    channels = loaded.channels if isinstance(loaded, EEGDM) else known
    settings = PreparationSettings(
        channels,
        signal_settings(dict(backbone.info.get("signal", {}))),
        options.missing,
        channel_source=options.channels,
        unit=options.unit,
        notch=options.notch,
    )
    return settings, Population.from_info(loaded.info)


def powers_of(prepared: Prepared, mu: float) -> Float[ndarray, "second channel band"]:
    """Return the log powers of every whole second of a prepared recording."""
    sfreq = prepared.sfreq
    stretches = []
    for first in range(0, int(prepared.n_times / sfreq), _READ_S):
        # A sample more, since seconds are rounded to samples where the rate is not an integer.
        start, stop = round(first * sfreq), round((first + _READ_S) * sfreq) + 1
        cut = prepared.read(start, min(stop, prepared.n_times))
        stretches.append(log_powers(to_model_units(cut, mu), sfreq).astype(np.float32))
    return np.concatenate(stretches)


def population_notes(beyond: Float[ndarray, "second channel"], population: Population) -> list[str]:
    """Return one sentence if too much of a recording is unlike the EEG that the model learned
    from, else none.
    """
    share = float((beyond > 1).mean()) if beyond.size else 0.0
    if share < WARN_SHARE:
        return []
    known = population.data or "the EEG that the model learned from"
    return [
        f"the signal is unlike {known}: {100 * share:.0f} % of it (by seconds and channels) lies"
        " outside the range that holds 99 % of that EEG, so the model's output may be wrong here;"
        " check unit, filters and channels"
    ]


def _table(
    powers: Float[ndarray, "second channel band"],
    beyond: Float[ndarray, "second channel"] | None,
    ch_names: list[str],
) -> pd.DataFrame:
    n_seconds, n_channels = powers.shape[:2]
    band = np.empty((n_seconds, n_channels), np.int8)
    change = np.empty((n_seconds, n_channels), np.float32)
    for c in range(n_channels):  # one at a time, to save memory
        own = powers[:, c : c + 1]
        band[:, c] = np.abs(scaled(own))[:, 0].argmax(axis=-1)
        change[:, c] = (own - np.median(own, axis=0))[np.arange(n_seconds), 0, band[:, c]]
    onset = np.repeat(np.arange(n_seconds, dtype=float), n_channels)
    return pd.DataFrame(
        {
            "onset_s": onset,
            "duration_s": 1.0,
            "channel": pd.Categorical.from_codes(
                np.tile(np.arange(n_channels), n_seconds), categories=ch_names
            ),
            "surprise": surprise_of(powers).astype(np.float32).ravel(),
            "band": pd.Categorical.from_codes(band.ravel(), categories=list(BANDS)),
            "change_db": (10 * change).ravel(),
            "population": np.float32(np.nan)
            if beyond is None
            else beyond.astype(np.float32).ravel(),
        }
    )


def strangest(seconds: pd.DataFrame, n_channels: int) -> pd.DataFrame:
    """Return the strangest stretches of a recording, the strangest first.

    A stretch is its strangest second and, to both sides, the neighbours in which any channel
    reaches half of that surprise. Stretches overlap no more than their middles are apart.
    """
    by_second = seconds.surprise.to_numpy().reshape(-1, n_channels)
    score = by_second.max(axis=1)
    rows = []
    for second in _peaks(score):
        first, last = _reach(score, second)
        row = seconds.iloc[second * n_channels + int(by_second[second].argmax())]
        rows.append(
            {
                "onset_s": float(first),
                "duration_s": float(last + 1 - first),
                "channel": str(row.channel),
                "surprise": float(row.surprise),
                "band": str(row.band),
                "change_db": float(row.change_db),
            }
        )
    return pd.DataFrame(rows)


def _peaks(score: Float[ndarray, " second"]) -> list[int]:
    left, found = score.astype(float), list[int]()
    while len(found) < N_STRETCHES and np.isfinite(left).any():
        peak = int(left.argmax())
        found.append(peak)
        left[max(0, peak - _APART_S) : peak + _APART_S + 1] = -np.inf
    return found


def _reach(score: Float[ndarray, " second"], peak: int) -> tuple[int, int]:
    least, first, last = score[peak] / 2, peak, peak
    while first > max(0, peak - _LONGEST_S) and score[first - 1] >= least:
        first -= 1
    while last < min(len(score) - 1, peak + _LONGEST_S) and score[last + 1] >= least:
        last += 1
    return first, last


def in_words(stretch: Any) -> str:
    """Say in a few words what is unusual in a stretch."""
    from eegdm.console import clock

    direction = "above" if stretch.change_db > 0 else "below"
    return (
        f"{clock(stretch.onset_s)}, {stretch.channel}: {stretch.band} power"
        f" {abs(stretch.change_db):.0f} dB {direction} its median (surprise"
        f" {stretch.surprise:.1f})"
    )
