"""A recording as a model wants it: derived, filtered and resampled onto disk, and what is to be
said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm import artifacts
from eegdm.config import SignalConfig
from eegdm.data import sidecars
from eegdm.data.channels import ChannelQuality
from eegdm.data.line_noise import LineNoise, line_noise
from eegdm.data.montage import TCP, Derivation, bipolar
from eegdm.data.plan import names_of, plan_channels
from eegdm.data.positions import keep_nearest, match_to_montage, own_channels
from eegdm.data.reading import checked, open_recording, opening_of
from eegdm.data.signal import Filtering, preprocess, robust_spread
from eegdm.data.units import refuse_unknown_unit
from eegdm.errors import UserError
from eegdm.inference.channel_prices import price_notes

if TYPE_CHECKING:
    import mne

SIGNAL, ABOUT_SIGNAL = "signal.npy", "signal.json"
# What is filtered at once; a fixed length bounds the memory, however long the recording is.
BLOCK_S = 300.0
MISSING_POLICIES = ("error", "drop", "interpolate")
RATE_POLICIES = ("resample", "native")
CHANNEL_SOURCES = ("montage", "file")
ORIGINS = ("exact", "derived", "interpolated", "nearest")
"""How a channel came about: it is a channel of the file; it is a difference of two, or one of them
reversed; an electrode of it is interpolated; or it is taken for the nearest of the model's."""
NATIVE_HZ = (100.0, 1000.0)


@dataclass(frozen=True)
class PreparationSettings:
    """What is to be done to a recording, the same for every file that a model reads.

    Attributes:
        channels: the channels that the model takes: names of `TCP`, or with ``taken_for`` of a
            file's own.
        signal: the filters and companding that its recordings had.
        missing: "error", "drop" or "interpolate" (spherical splines) where a channel can't be
            derived.
        rate: "resample" to the model's sampling rate, or "native": stay at the file's.
        channel_source: "montage" derives the model's channels; "file" takes the file's own, each
            for the nearest of them.
        taken_for: for each of the channels the one of `TCP` that a model with channels of its own
            takes it for; these are found by name, whatever the channel source.
        one_file_channel_per_model_channel: with "file", let each of the model's channels stand for
            one of the file's, the nearest; the others are left out.
        unit: what the recording's numbers are in (V, mV or uV), above what it says.
        notch: Hz to notch in place of the model's frequencies, or "auto": 50 or 60 Hz by the
            recording's own hum.
    """

    channels: tuple[str, ...]
    signal: SignalConfig
    missing: str = "error"
    rate: str = "resample"
    channel_source: str = "montage"
    taken_for: tuple[str, ...] | None = None
    one_file_channel_per_model_channel: bool = False
    unit: str | None = None
    notch: tuple[float, ...] | str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("missing", self.missing, MISSING_POLICIES),
            ("rate", self.rate, RATE_POLICIES),
            ("channels", self.channel_source, CHANNEL_SOURCES),
        ):
            if value not in allowed:
                raise UserError(f"{name}={value!r} is unknown; choose from {', '.join(allowed)}")
        refuse_unknown_unit(self.unit)
        if self.rate == "native" and self.signal.whiten:
            raise UserError(
                f"rate=native: this model's whitening filter is made for {self.signal.sfreq:g} Hz;"
                " use rate=resample"
            )
        if isinstance(self.notch, str) and self.notch != "auto":
            raise UserError(f"notch={self.notch!r} is unknown; give frequencies in Hz, or auto")
        if isinstance(self.notch, tuple) and not all(1 <= hz <= 500 for hz in self.notch):
            raise UserError(f"notch={self.notch}: frequencies are from 1 to 500 Hz")


@dataclass(frozen=True)
class Prepared:
    """A prepared recording: its signal lies in a file, float32 (channel, time), unit 100 µV, not
    companded.
    """

    path: Path
    ch_names: list[str]
    taken_for: list[str]
    """The channel of `TCP` that the model takes each for: itself, or the nearest."""
    distance_mm: list[float]
    """How far each lies from the channel that it is taken for."""
    origins: list[str]
    """How each came about, one of `ORIGINS`."""
    sfreq: float
    n_times: int
    file_sfreq: float
    duration_s: float
    quality: list[ChannelQuality]
    line_noise: LineNoise | None
    steps: list[str]
    """What was done, in the order of doing."""
    notes: list[str]
    """What a reader of the result must know."""

    def read(self, start: int, stop: int) -> Float[ndarray, "channel time"]:
        """Return a copy of samples start..stop. The file is closed again, so that its pages don't
        count as this process's.
        """
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[:, start:stop])

    def spread(self) -> float:
        """Return the recording's robust spread in 100 µV."""
        return robust_spread(np.load(self.path, mmap_mode="r", allow_pickle=False))


def signal_settings(stored: dict[str, Any]) -> SignalConfig:
    """Return how a model's recordings were treated, from its config.json; SignalConfig's defaults
    for what it does not say.

    Raises:
        UserError: a setting is unknown or of another type.
    """
    default = asdict(SignalConfig())
    for name, value in stored.items():
        kinds = {
            "notch": list,
            "unit": str | None,
            "spread": float | int | None,
            "whiten": list | None,
        }
        if name not in default or not isinstance(value, kinds.get(name, type(default[name]) | int)):
            raise UserError(
                f"signal.{name}={value!r:.80} in the model's config.json is not a setting of this"
                " version of eegdm"
            )
    return SignalConfig(**(default | stored))


def as_raw(
    recording: mne.io.BaseRaw | str | Path,
    unit: str | None = None,
    wanted: Sequence[str] = TCP,
) -> mne.io.BaseRaw:
    """Open a file, as the sidecars of BIDS beside it describe it; a Raw is taken as it is, or as a
    scaled copy.

    Raises:
        UserError: as `open_recording`; a Raw has gaps.
    """
    if not isinstance(recording, str | Path):
        return checked(recording, unit, display_name(recording))
    return open_file(Path(recording), unit, wanted, Path(recording))


def open_file(
    path: Path, unit: str | None, wanted: Sequence[str], recording: Path
) -> mne.io.BaseRaw:
    """Open a file that holds a recording or a part of it, as the sidecars of the recording describe
    it.

    Raises:
        UserError: as `open_recording`.
    """
    units = sidecars.sidecars_of(recording).units
    raw = open_recording(path, unit, units=units, wanted=wanted)
    sidecars.apply(raw, recording)
    return raw


def display_name(recording: mne.io.BaseRaw | str | Path) -> str:
    """What to call a recording in a message: its file, or that it came without one."""
    if isinstance(recording, str | Path):
        return str(recording)
    file = next((name for name in recording.filenames if name is not None), None)
    return "the recording" if file is None else str(file)


def prepare(
    raw: mne.io.BaseRaw, settings: PreparationSettings, folder: Path, progress: bool = False
) -> Prepared:
    """Write the signal that a model is to see below ``folder``, in blocks of bounded memory;
    finished work there is taken over.

    Raises:
        UserError: the recording lacks channels, is too short, or can't be EEG in volts.
    """
    if (finished := _read_prepared(folder)) is not None:
        return finished
    plan = plan_treatment(raw, settings)
    # Written block by block into a memory map: a night of EEG need not fit into memory.
    with artifacts.atomic_path(folder / SIGNAL) as temporary:
        done = preprocess(
            plan.source,
            plan.derivations,
            plan.filtering,
            block_s=BLOCK_S,
            progress="filter" if progress else None,
            out=lambda shape: artifacts.memory_map(temporary, shape),
        )
        n_times = done.signal.shape[1]
    prepared = Prepared(
        path=folder / SIGNAL,
        ch_names=plan.ch_names,
        taken_for=plan.taken_for,
        distance_mm=plan.distance_mm,
        origins=plan.origins,
        sfreq=done.sfreq,
        n_times=n_times,
        file_sfreq=float(raw.info["sfreq"]),
        duration_s=raw.n_times / float(raw.info["sfreq"]),
        quality=done.quality,
        line_noise=plan.line_noise or line_noise(plan.source, plan.derivations),
        steps=_steps(raw, plan.derivations, plan.filtering, settings),
        notes=[*plan.notes, *done.notes],
    )
    _write_prepared(folder, prepared)
    return prepared


# --------------------------------------------------------------------------- channels and filters


class Treatment(NamedTuple):
    """What a recording's channels are made of and how they are filtered, before that is done."""

    source: Any
    """What to read from: the recording, or it with interpolated electrodes."""
    derivations: list[Derivation]
    taken_for: list[str]
    distance_mm: list[float]
    origins: list[str]
    """These three as in `Prepared`."""
    filtering: Filtering
    line_noise: LineNoise | None
    """The hum, where the notch depends on it."""
    notes: list[str]

    @property
    def ch_names(self) -> list[str]:
        return [derivation.name for derivation in self.derivations]


def plan_treatment(raw: mne.io.BaseRaw, settings: PreparationSettings) -> Treatment:
    """Say what a model wants done to a recording.

    Raises:
        UserError: the recording lacks channels, or is sampled too slowly or too fast.
    """
    source, derivations, taken_for, distance_mm, notes = _channels(raw, settings)
    hum = line_noise(source, derivations) if settings.notch == "auto" else None
    wanted, notch_notes = _notch(settings, hum)
    filtering, low_note = _filtering(float(raw.info["sfreq"]), settings, wanted)
    origins = _origins(raw, derivations, taken_for, settings)
    notes = [
        *opening_of(raw).notes,
        *sidecars.notes_of(raw),
        *notes,
        *_price_notes(origins, settings),
        *notch_notes,
        *([low_note] if low_note else []),
    ]
    return Treatment(source, derivations, taken_for, distance_mm, origins, filtering, hum, notes)


def _channels(
    raw: mne.io.BaseRaw, settings: PreparationSettings
) -> tuple[Any, list[Derivation], list[str], list[float], list[str]]:
    """What to read from, how each channel is made, which of the montage it is taken for and how far
    from it in mm, and what to say of that.
    """
    if settings.taken_for is not None:
        return _own_channels(raw, settings.channels, settings.taken_for, settings.missing)
    if settings.channel_source == "file":
        names, notes = names_of(raw)
        matched = match_to_montage(names, settings.channels)
        kept = keep_nearest(matched) if settings.one_file_channel_per_model_channel else matched
        assignment = "; ".join(
            f"{p.derivation.name} for {p.nearest} ({p.distance_mm:.0f} mm away)" for p in kept
        )
        # What was read as an electrode or doubted has a note of its own.
        read = {*names.doubts, *names.repeated, *(p.derivation.name for p in matched)}
        unread = [name for name in raw.ch_names if name not in read]
        farther = [p.derivation.name for p in matched if p not in kept]
        notes.insert(
            0,
            "the file's own channels, each taken for the nearest one that the model knows:"
            f" {assignment}",
        )
        for reason, left_out in (
            ("no EEG by their names", unread),
            ("repeated", names.repeated),
            ("another channel is nearer to the same one of the model", farther),
        ):
            if left_out:
                notes.append(f"left out, {reason}: {', '.join(left_out)}")
        nearest, distance_mm = [p.nearest for p in kept], [p.distance_mm for p in kept]
        return raw, [p.derivation for p in kept], nearest, distance_mm, notes
    source, derivations, notes = plan_channels(raw, settings.channels, settings.missing)
    made = [d.name for d in derivations]
    return source, derivations, made, [0.0] * len(made), notes


def _own_channels(
    raw: mne.io.BaseRaw, channels: Sequence[str], taken_for: Sequence[str], missing: str
) -> tuple[Any, list[Derivation], list[str], list[float], list[str]]:
    """As :func:`_channels`, for a model that learned from channels of these names."""
    names, notes = names_of(raw)
    found = own_channels(names, channels, taken_for)
    lacking = [name for name in channels if name not in {p.derivation.name for p in found}]
    if not found or (lacking and missing != "drop"):
        raise UserError(
            f"lacks {', '.join(map(ascii, lacking))}, which the model learned from by name; the"
            f" recording has {', '.join(map(ascii, names.ch_names[:40]))}; missing=drop leaves out"
            f" what is lacking{names.refusal()}"
        )
    notes.insert(0, f"the model's own channels, by name: {len(found)} of {len(channels)}")
    if lacking:
        notes.append(f"left out, not in the recording: {', '.join(lacking)}")
    nearest, distance_mm = [p.nearest for p in found], [p.distance_mm for p in found]
    return raw, [p.derivation for p in found], nearest, distance_mm, notes


def _origins(
    raw: mne.io.BaseRaw,
    derivations: Sequence[Derivation],
    taken_for: Sequence[str],
    settings: PreparationSettings,
) -> list[str]:
    if settings.channel_source == "file" or settings.taken_for is not None:
        return [
            "exact" if "-".join(bipolar(d.name) or ()) == name else "nearest"
            for d, name in zip(derivations, taken_for, strict=True)
        ]
    own = set(raw.ch_names)
    return [
        "interpolated"
        if not own.issuperset(d.sources)
        else "exact"
        if d.minus is None
        else "derived"
        for d in derivations
    ]


def _price_notes(origins: Sequence[str], settings: PreparationSettings) -> list[str]:
    """What the channels cost that are not as the model learned them."""
    if settings.taken_for is not None:
        # It learned from these, whatever they are taken for
        return price_notes(["exact"] * len(origins), len(settings.channels) - len(origins))
    by_montage = settings.channel_source == "montage"
    return price_notes(origins, len(settings.channels) - len(origins) if by_montage else 0)


def _notch(
    settings: PreparationSettings, noise: LineNoise | None
) -> tuple[tuple[float, ...], list[str]]:
    """The frequencies to notch, and a note where they are not the model's."""
    of_model = tuple(settings.signal.notch)
    words = f"the model's recordings had {_hertz(of_model)}"
    if settings.notch is None:
        return of_model, []
    if isinstance(settings.notch, tuple):
        return settings.notch, [f"notch filter: {_hertz(settings.notch)} as asked; {words}"]
    if noise is None or not noise.rms_uv.any():
        return of_model, [
            f"notch=auto: no mains hum was measured, so {_hertz(of_model)} as the model's"
        ]
    strongest = float(noise.rms_uv.max())
    return (noise.mains_hz,), [
        f"notch=auto: {noise.mains_hz:g} Hz, where the hum is (up to {strongest:.2g} µV); {words}"
    ]


def _hertz(notch: Sequence[float]) -> str:
    return f"{', '.join(f'{hz:g}' for hz in notch)} Hz" if notch else "none"


def _filtering(
    file_sfreq: float, settings: PreparationSettings, notch: tuple[float, ...]
) -> tuple[Filtering, str | None]:
    """The filters to apply and a note on the band that is missing; at the file's own rate the band
    stays the model's.
    """
    s = settings.signal
    wanted = Filtering(s.sfreq, s.highpass, s.lowpass, notch)
    if settings.rate == "resample":
        # preprocess() finds and notes the band that is missing.
        return wanted, None
    low, high = NATIVE_HZ
    if not low <= file_sfreq <= high:
        raise UserError(
            f"sampled at {file_sfreq:g} Hz; rate=native takes {low:g} to {high:g} Hz, rate=resample"
            " (the default) others too"
        )
    possible, note = wanted.effective(file_sfreq)
    return replace(possible, sfreq=file_sfreq), note


def _steps(
    raw: mne.io.BaseRaw,
    derivations: Sequence[Derivation],
    filtering: Filtering,
    settings: PreparationSettings,
) -> list[str]:
    sfreq = float(raw.info["sfreq"])
    applied, _ = filtering.effective(sfreq)
    made = "; ".join(
        d.name if d.formula() == d.name else f"{d.name} = {d.formula()}" for d in derivations
    )
    steps = [
        f"read {len(raw.ch_names)} channels at {sfreq:g} Hz, {raw.n_times / sfreq:.1f} s",
        f"{len(derivations)} channels for the model: {made}",
        f"band-pass {applied.highpass:g} to {applied.lowpass:g} Hz (zero phase)",
    ]
    if applied.notch:
        steps.append(f"notch at {', '.join(f'{hz:g}' for hz in applied.notch)} Hz")
    if applied.sfreq != sfreq:
        steps.append(f"resampled to {applied.sfreq:g} Hz")
    if settings.signal.spread:
        steps.append(
            f"scaled so that the recording's robust spread is {settings.signal.spread:g} model"
            " units"
        )
    if settings.signal.mu:
        steps.append(f"amplitudes above 100 µV companded (mu-law, mu {settings.signal.mu:g})")
    if settings.signal.whiten:
        steps.append(
            "windows whitened by the model's prediction filter"
            f" ({len(settings.signal.whiten)} coefficients)"
        )
    return steps


# ---------------------------------------------------------------------------------------- on disk


def _write_prepared(folder: Path, prepared: Prepared) -> None:
    about = asdict(prepared) | {"path": SIGNAL, "quality": [list(q) for q in prepared.quality]}
    if prepared.line_noise is not None:
        about["line_noise"] = [prepared.line_noise.mains_hz, prepared.line_noise.rms_uv.tolist()]
    artifacts.write_json(folder / ABOUT_SIGNAL, about)


def _read_prepared(folder: Path) -> Prepared | None:
    """Return what a killed run of this version prepared."""
    if not (folder / ABOUT_SIGNAL).is_file():
        return None
    about = artifacts.read_json(folder / ABOUT_SIGNAL)
    # Of another version: prepared anew, as if nothing were there.
    if about.keys() != {field.name for field in fields(Prepared)}:
        return None
    noise = about["line_noise"]
    about["line_noise"] = None if noise is None else LineNoise(noise[0], np.array(noise[1]))
    about["quality"] = [ChannelQuality(*q) for q in about["quality"]]
    return Prepared(**(about | {"path": folder / SIGNAL}))
