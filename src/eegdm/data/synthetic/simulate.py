"""Synthetic EEG recordings: subjects with a background of their own, and stretches of each class
that TUEV annotates.

``simulate`` adds up potentials in µV against a distant reference: 1/f noise that neighbouring
electrodes share, posterior alpha that waxes and wanes, mains, drifts, and in each segment a source
of its class. Bipolar channels that share the electrode nearest to a source therefore reverse phase,
as in real recordings.

The strength of a source (its RMS against the background of its segment) comes from one wide
distribution for all classes, slow activity over the same places occurs in all of them, and the
background's level varies with subject and segment. So amplitude alone tells the classes apart
badly; shape and rhythm tell them apart well. Everything is a function of (seed, subject, run).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from scipy.signal.windows import tukey

from eegdm.data.montage import TCP
from eegdm.data.synthetic import sources
from eegdm.data.synthetic.sources import (
    HEAD_ELECTRODES,
    Field,
    Potential,
    SimulatedSource,
    Wave,
    band,
    near,
    noise,
)
from eegdm.errors import UserError

SEIZURE_CLASS, REST_CLASS = "SEIZURE", "REST"
SOURCES: dict[str, Callable[[Generator, Wave], SimulatedSource]] = {
    "SPSW": sources.spike_and_wave,
    "GPED": sources.generalised_periodic,
    "PLED": sources.lateralised_periodic,
    "EYEM": sources.eye_movement,
    "ARTF": sources.artefact,
    "BCKG": sources.slow_activity,
    SEIZURE_CLASS: sources.seizure,
    REST_CLASS: sources.slow_activity,
}
CLASSES = tuple(SOURCES)[:6]
"""In the order of TUEV's codes 1..6."""

CYCLE = (*CLASSES, "SPSW", "ARTF")
"""The two classes that are marked on few channels come twice, so that no class has far fewer
annotations.
"""

EVENT_S = 1.0
MARGIN_S = 2.0
"""A sample reaches 2 s beyond its event on both sides; all of it lies inside the event's segment.
"""
SEGMENT_S = 7.0
STRENGTH = (1.5, 4.0)
"""RMS of a source on its strongest bipolar channel, as a multiple of the background's."""
OTHER_STRENGTHS = {SEIZURE_CLASS: (3.0, 6.0), REST_CLASS: (0.2, 0.8)}
"""The same where only seizures are annotated: they stand out."""
SLOWING = (0.5, 1.4)
"""RMS of the slow activity that occurs in all classes, as a multiple of the source's."""


class Segment(NamedTuple):
    """A stretch of a recording that holds one class."""

    label: str
    start_s: float
    stop_s: float


class SimulatedEvent(NamedTuple):
    """An annotated interval, and the TCP channels (0..21) on which an annotator would mark it."""

    label: str
    onset_s: float
    duration_s: float
    channels: tuple[int, ...]


class Simulation(NamedTuple):
    """A synthetic recording; the rows of ``potential_uV`` are ``HEAD_ELECTRODES``."""

    sfreq: float
    mains_hz: float
    potential_uV: Potential
    ecg_uV: Wave
    events: list[SimulatedEvent]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What all recordings of one subject share. Levels are RMS in µV at an electrode."""

    background_uV: float
    slope: float
    """Power falls as 1 / frequency**slope above 1 Hz."""
    reach: float
    """Distance, in head radii, over which the correlation of two electrodes falls to 1/e."""
    gains: Field
    """About 1, smooth over the head: skulls differ from place to place."""
    alpha_hz: float
    alpha_uV: float
    mains_hz: float
    mains_uV: float
    drift_uV: float
    contact_uV: Field
    """White noise of each electrode's contact; the worse the contact, the more mains."""
    heart_hz: float

    @classmethod
    def draw(cls, rng: Generator) -> Subject:
        """Draw a subject."""
        background_uV = 14 * np.exp(0.3 * rng.standard_normal())
        return cls(
            background_uV=background_uV,
            slope=rng.uniform(1.3, 2.1),
            reach=rng.uniform(0.9, 1.6),
            gains=np.exp(0.2 * sources.mixing(1.0) @ rng.standard_normal(len(HEAD_ELECTRODES))),
            alpha_hz=rng.uniform(8.5, 11.5),
            alpha_uV=background_uV * rng.uniform(0.5, 1.3),
            mains_hz=rng.choice([50.0, 60.0]),
            mains_uV=rng.uniform(0.3, 2.0),
            drift_uV=rng.uniform(5, 20),
            contact_uV=rng.uniform(0.4, 1.0)
            * np.exp(0.3 * rng.standard_normal(len(HEAD_ELECTRODES))),
            heart_hz=rng.uniform(0.9, 1.5),
        )


# ------------------------------------------------------------------------------------- recordings


def subject_generator(seed: int, subject: str, *run: int) -> Generator:
    """The random numbers of a subject, or of one of its runs, whatever else has been drawn."""
    return np.random.default_rng([seed, *subject.encode(), *run])


def six_classes(rng: Generator, minutes: float) -> list[Segment]:
    """Fill a recording with segments of about 7 s: those of ``CYCLE`` in random order, again and
    again.

    Raises:
        UserError: if there is no room for one cycle, so that a class might be missing.
    """
    edges = _edges(rng, 0, int(60 * minutes))
    if len(edges) <= len(CYCLE):
        needed = SEGMENT_S * len(CYCLE) / 60
        raise UserError(
            f"minutes={minutes:g}: too short for a synthetic recording with all six classes; give"
            f" {needed:g} or more"
        )
    # Cycle by cycle, so that any part of the recording has about as many segments of each class.
    labels = np.concatenate([rng.permutation(CYCLE) for _ in range(0, len(edges), len(CYCLE))])
    return [
        Segment(str(label), *edge) for label, edge in zip(labels, pairwise(edges), strict=False)
    ]


def rest(rng: Generator, minutes: float) -> list[Segment]:
    """Fill a recording with background."""
    return _rest(rng, 0, int(60 * minutes))


def one_seizure(rng: Generator, minutes: float) -> list[Segment]:
    """Fill a recording with background and one seizure of 20 to 60 s, 10 s or more from either end.

    Raises:
        UserError: if there is no room for the longest seizure.
    """
    if minutes < 1.5:
        raise UserError(
            f"minutes={minutes:g}: too short for a synthetic recording with a seizure; give 1.5 or"
            " more"
        )
    stop_s, duration_s = int(60 * minutes), int(rng.integers(20, 61))
    onset_s = int(rng.integers(10, stop_s - duration_s - 10))
    ictal = Segment(SEIZURE_CLASS, onset_s, onset_s + duration_s)
    return [*_rest(rng, 0, ictal.start_s), ictal, *_rest(rng, ictal.stop_s, stop_s)]


def _rest(rng: Generator, start_s: float, stop_s: float) -> list[Segment]:
    return [Segment(REST_CLASS, *edge) for edge in pairwise(_edges(rng, start_s, stop_s))]


def _edges(rng: Generator, start_s: float, stop_s: float) -> list[float]:
    """Borders of segments of about ``SEGMENT_S`` that fill a stretch."""
    lengths = rng.uniform(0.9, 1.1, size=max(1, int((stop_s - start_s) / SEGMENT_S)))
    borders = np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum()
    return (start_s + (stop_s - start_s) * borders).tolist()


def record(
    seed: int, subject: str, run: int, sfreq: float, plan: Callable[[Generator], list[Segment]]
) -> Simulation:
    """Make up one run of a subject: what ``plan`` draws, on the background of that subject."""
    rng = subject_generator(seed, subject, run)
    return simulate(Subject.draw(subject_generator(seed, subject)), plan(rng), rng, sfreq)


def simulate(
    subject: Subject, segments: Sequence[Segment], rng: Generator, sfreq: float
) -> Simulation:
    """Make up one recording.

    Args:
        subject: whose background it has.
        segments: what happens when, without gaps from 0 to the end.
        rng: source of all randomness of this recording.
        sfreq: sampling rate in Hz.
    """
    # All draws come from one generator in this order: a new one has to be the last, or every seed
    # would give another recording.
    n_times = round(segments[-1].stop_s * sfreq)
    potential = _brain(rng, subject, segments, n_times, sfreq)
    events: list[SimulatedEvent] = []
    for segment in segments:
        start, stop = round(segment.start_s * sfreq), round(segment.stop_s * sfreq)
        time, fade = np.arange(stop - start) / sfreq, tukey(stop - start, 0.05)
        strength_uV = np.median(_rms(potential[:, start:stop])) * _between(
            rng, OTHER_STRENGTHS.get(segment.label, STRENGTH)
        )
        # Relative to the background of its own segment: strength must not betray the class.
        source = SOURCES[segment.label](rng, time)
        activity = fade * _scaled_to_rms(source.potential, strength_uV)
        slow = _scaled_to_rms(
            sources.slow_activity(rng, time).potential, strength_uV * _between(rng, SLOWING)
        )
        potential[:, start:stop] += activity + fade * slow
        events += _events_of_segment(segment, source.times_s, activity)
    potential += _surroundings(rng, subject, n_times, sfreq)
    return Simulation(
        sfreq, subject.mains_hz, potential, _heartbeats(rng, subject, n_times, sfreq), events
    )


def tcp(potential: Potential) -> Float[np.ndarray, "channel time"]:
    """Potentials at ``HEAD_ELECTRODES`` as the 22 channels of the TCP montage."""
    pairs = [[HEAD_ELECTRODES.index(name) for name in channel.split("-")] for channel in TCP]
    plus, minus = np.transpose(pairs)
    return potential[plus] - potential[minus]


def _rms(potential: Potential) -> Float[np.ndarray, " channel"]:
    return np.std(tcp(potential), axis=1)


def _between(rng: Generator, bounds: tuple[float, float]) -> float:
    """A log-uniform number."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _scaled_to_rms(potential: Potential, rms_uV: float) -> Potential:
    """Bring a potential to an RMS on the bipolar channel where it is strongest."""
    return potential * (rms_uV / _rms(potential).max())


def _events_of_segment(
    segment: Segment, times_s: sources.Times, activity: Potential
) -> list[SimulatedEvent]:
    """Events of 1 s, each with a discharge, a second or more apart and inside the margin; onsets
    with two decimals.
    """
    if segment.label == SEIZURE_CLASS:
        return [
            SimulatedEvent(
                SEIZURE_CLASS,
                segment.start_s,
                segment.stop_s - segment.start_s,
                tuple(range(len(TCP))),
            )
        ]
    # An annotator marks the channels on which a discharge stands out, not all that it reaches.
    rms = _rms(activity)
    shown = np.flatnonzero(rms >= 0.5 * rms.max())
    onsets: list[float] = []
    for onset in np.round(segment.start_s + times_s - 0.3, 2):
        inside = segment.start_s + MARGIN_S <= onset <= segment.stop_s - MARGIN_S - EVENT_S
        if inside and (not onsets or onset >= onsets[-1] + 2 * EVENT_S):
            onsets.append(float(onset))
    return [
        SimulatedEvent(segment.label, onset, EVENT_S, tuple(shown.tolist())) for onset in onsets
    ]


# ------------------------------------------------------------------------------------- background


def _brain(
    rng: Generator, subject: Subject, segments: Sequence[Segment], n_times: int, sfreq: float
) -> Potential:
    """1/f background and the alpha rhythms of both hemispheres, at levels that change from segment
    to segment.
    """
    rows = noise(
        rng,
        (len(HEAD_ELECTRODES), n_times),
        sfreq,
        lambda f: np.maximum(f, 1.0) ** (-subject.slope / 2) * (f > 0.3),
    )
    background = subject.background_uV * sources.mixing(subject.reach) @ rows
    # Envelopes are complex Gaussian, whose amplitude waxes and wanes as alpha does; the common part
    # lets both hemispheres do so together. 2 (1 + 0.7²) is its variance.
    parts = noise(rng, (6, n_times), sfreq, band(0.0, 0.7))
    common = parts[4] + 1j * parts[5]
    envelopes = (parts[:2] + 1j * parts[2:4] + 0.7 * common) / np.sqrt(2 * 1.49)
    carrier = np.exp(2j * np.pi * subject.alpha_hz * np.arange(n_times) / sfreq)
    left, right = np.sqrt(2) * subject.alpha_uV * np.real(envelopes * carrier)
    alpha = np.outer(near("O1", 0.65), left) + np.outer(near("O2", 0.65), right)
    # Levels that change with the segment keep a classifier from telling classes by amplitude alone.
    level, opened = _by_segment(rng, segments, n_times, sfreq)
    return (
        subject.gains[:, None] * np.exp(0.35 * level) * (background + np.exp(0.4 * opened) * alpha)
    )


def _by_segment(
    rng: Generator, segments: Sequence[Segment], n_times: int, sfreq: float
) -> Float[np.ndarray, "2 time"]:
    """Two standard normal numbers for each segment, with a second of transition between
    segments.
    """
    # Each level twice, at both inner edges of its segment: between segments np.interp goes over.
    levels = rng.standard_normal((2, len(segments)))
    edges = [(segment.start_s + 0.5, segment.stop_s - 0.5) for segment in segments]
    time = np.arange(n_times) / sfreq
    return np.stack([np.interp(time, np.ravel(edges), np.repeat(row, 2)) for row in levels])


def _surroundings(rng: Generator, subject: Subject, n_times: int, sfreq: float) -> Potential:
    """Drifts, contact noise, mains, and what the reference picks up, which all electrodes share."""
    size = (len(HEAD_ELECTRODES), n_times)
    drift = subject.drift_uV * noise(rng, size, sfreq, band(0.0, 0.15))
    contact = subject.contact_uV[:, None] * rng.standard_normal(size)
    mains = np.sqrt(2) * np.sin(2 * np.pi * subject.mains_hz * np.arange(n_times) / sfreq)
    # An electrode with a bad contact has more noise and picks up more of the mains.
    mains_uV = subject.mains_uV * subject.contact_uV / subject.contact_uV.mean()
    reference = (
        0.5
        * subject.background_uV
        * noise(rng, (1, n_times), sfreq, lambda f: 1 / np.maximum(f, 1.0))
    )
    return drift + contact + np.outer(mains_uV, mains) - reference


def _heartbeats(rng: Generator, subject: Subject, n_times: int, sfreq: float) -> Wave:
    """Electrocardiogram in µV: Q, R, S and T of every beat."""
    time = np.arange(n_times) / sfreq
    ecg = 5 * rng.standard_normal(n_times)
    for beat in sources.recurring(rng, time[-1], 0.96 / subject.heart_hz, 1.04 / subject.heart_hz):
        for delay, width, height in (
            (-0.03, 0.01, -120),
            (0, 0.012, 1000),
            (0.03, 0.01, -250),
            (0.25, 0.04, 220),
        ):
            # Six standard deviations: what is beyond is below 1e-7 of the wave.
            around = slice(*np.searchsorted(time, beat + delay + np.array([-6, 6]) * width))
            ecg[around] += height * sources.bump(time[around] - beat - delay, width)
    return ecg
