"""A synthetic head and the sources of EEG events on it.

A source is a function ``(rng, time) -> SimulatedSource``: it draws the parameters of one stretch of
EEG and returns potentials at the electrodes in arbitrary units. The classes are those of the TUH
EEG events corpus (Harati et al. 2015). Negative is negative, whatever the display does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

# Inclination from the vertex and azimuth in degrees (negative inclination: left) on a spherical
# head.
_ANGLES = {
    "FP1": (-92, -72),
    "FP2": (92, 72),
    "F3": (-60, -51),
    "F4": (60, 51),
    "C3": (-46, 0),
    "C4": (46, 0),
    "P3": (-60, 51),
    "P4": (60, -51),
    "O1": (-92, 72),
    "O2": (92, -72),
    "F7": (-92, -36),
    "F8": (92, 36),
    "T3": (-92, 0),
    "T4": (92, 0),
    "T5": (-92, 36),
    "T6": (92, -36),
    "A1": (-120, 8),
    "A2": (120, -8),
    "FZ": (46, 90),
    "CZ": (0, 0),
    "PZ": (46, -90),
    "FT9": (-112, -20),
    "FT10": (112, 20),
    "ROC": (112, 48),
}
HEAD_ELECTRODES = tuple(_ANGLES)
"""T3 to T6 are the newer T7, T8, P7, P8; FT9 and FT10 are the older T1 and T2; ROC is beside the
right eye.
"""

_TEMPORAL = ("F7", "T3", "T5", "F8", "T4", "T6")
_FOCI = (*_TEMPORAL, "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2")
_MUSCLES = ("T3", "T4", "F7", "F8", "FP1", "FP2")

Field = Float[np.ndarray, "electrode"]
Wave = Float[np.ndarray, "time"]
Potential = Float[np.ndarray, "electrode time"]
Times = Float[np.ndarray, " discharge"]
Spectrum = Callable[[np.ndarray], np.ndarray]


class SimulatedSource(NamedTuple):
    """Potentials at ``HEAD_ELECTRODES`` in arbitrary units, and the times of the discharges in s
    from the start.
    """

    potential: Potential
    times_s: Times


# ------------------------------------------------------------------------------------------- head


def _unit_sphere_positions() -> Float[np.ndarray, "electrode 3"]:
    inclination, azimuth = np.radians(np.array(list(_ANGLES.values()), dtype=float)).T
    right, front = np.sin(inclination) * np.cos(azimuth), np.sin(inclination) * np.sin(azimuth)
    return np.stack([right, front, np.cos(inclination)], axis=1)


POSITIONS = _unit_sphere_positions()  # right, front, up; unit sphere
ELECTRODE_DISTANCES = np.linalg.norm(POSITIONS[:, None] - POSITIONS[None], axis=2)


def near(electrode: str, width: float) -> Field:
    """Gaussian field of unit height centred on an electrode; neighbours in the 10-20 system are
    about 0.6 apart.
    """
    return np.exp(-0.5 * (ELECTRODE_DISTANCES[HEAD_ELECTRODES.index(electrode)] / width) ** 2)


def _generalised(rng: Generator) -> Field:
    """Everywhere, most along the midline, and a little uneven."""
    return (
        0.25
        + near(rng.choice(("FZ", "CZ", "PZ")), 0.8)
        + 0.1 * mixing(1.0) @ rng.standard_normal(len(HEAD_ELECTRODES))
    )


def _lateralised(rng: Generator) -> Field:
    """One hemisphere, most at its temporal or parietal lobe."""
    focus = rng.choice(("T3", "T5", "P3", "T4", "T6", "P4"))
    side = np.sign(POSITIONS[HEAD_ELECTRODES.index(focus), 0])
    return near(focus, rng.uniform(0.7, 0.9)) / (1 + np.exp(-side * POSITIONS[:, 0] / 0.1))


def mixing(reach: float) -> Float[np.ndarray, "electrode electrode"]:
    """Matrix that gives independent rows the correlation exp(-distance / reach)."""
    # L of a correlation matrix L L' gives its correlation to independent rows.
    return np.linalg.cholesky(np.exp(-ELECTRODE_DISTANCES / reach))


def noise(rng: Generator, shape: tuple[int, int], sfreq: float, spectrum: Spectrum) -> np.ndarray:
    """Gaussian noise (row, time) of unit RMS; ``spectrum`` maps frequencies in Hz to relative
    amplitudes.
    """
    bins = np.fft.rfft(rng.standard_normal(shape)) * spectrum(np.fft.rfftfreq(shape[1], 1 / sfreq))
    # Of unit RMS over all rows together: single rows differ, as they would by chance.
    signal = np.fft.irfft(bins, n=shape[1])
    return signal / np.sqrt(np.mean(signal**2))


def band(low_hz: float, high_hz: float) -> Spectrum:
    """Spectrum that is 1 from ``low_hz`` to ``high_hz`` and 0 elsewhere."""
    return lambda frequency: ((frequency >= low_hz) & (frequency <= high_hz)).astype(float)


# ------------------------------------------------------------------------------------------ waves


def bump(time: np.ndarray, width: float, fall: float | None = None) -> np.ndarray:
    """Gaussian of unit height at time 0 with standard deviation ``width``, after its peak
    ``fall``.
    """
    return np.exp(-0.5 * (time / np.where(time < 0, width, fall or width)) ** 2)


def recurring(rng: Generator, length_s: float, shortest_s: float, longest_s: float) -> Times:
    """Times whose distances are uniform between two bounds, one of them near the middle, all clear
    of both ends.
    """
    # From the middle outwards, since a window around the middle must hold a discharge; more are
    # drawn than can fit.
    distances = rng.uniform(shortest_s, longest_s, size=2 * int(length_s / shortest_s))
    before, after = np.cumsum(distances.reshape(2, -1), axis=1)
    times = rng.uniform(0.45, 0.53) * length_s + np.concatenate([-before[::-1], [0.0], after])
    return times[(times > 0.5) & (times < length_s - 0.7)]


def _heights(rng: Generator, times: np.ndarray) -> np.ndarray:
    """One amplitude of about 1 for each discharge."""
    return np.exp(0.15 * rng.standard_normal(len(times)))


def _discharge_train(
    time: np.ndarray,
    times: np.ndarray,
    heights: np.ndarray,
    wave: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    return np.sum(
        [height * wave(time - t) for height, t in zip(heights, times, strict=True)], axis=0
    )


# ---------------------------------------------------------------------------------------- sources


def spike_and_wave(rng: Generator, time: Wave) -> SimulatedSource:
    """SPSW: a negative spike of 70 ms and a negative slow wave of 200-300 ms over one electrode and
    its neighbours.
    """
    slow_s, slow_height = rng.uniform(0.2, 0.3), rng.uniform(0.4, 0.65)

    def wave(t: np.ndarray) -> np.ndarray:
        slow = np.sin(np.pi * np.clip((t - 0.05) / slow_s, 0, 1)) ** 2
        return -bump(t, 0.011, 0.016) + 0.25 * bump(t - 0.05, 0.014) - slow_height * slow

    times = recurring(rng, time[-1], 1.4, 2.8)
    train = _discharge_train(time, times, _heights(rng, times), wave)
    return SimulatedSource(np.outer(near(rng.choice(_FOCI), rng.uniform(0.4, 0.5)), train), times)


def generalised_periodic(rng: Generator, time: Wave) -> SimulatedSource:
    """GPED: triphasic complexes about once a second on both sides, largest along the midline."""
    period_s = rng.uniform(0.75, 1.25)
    times = recurring(rng, time[-1], 0.94 * period_s, 1.06 * period_s)

    def wave(t: np.ndarray) -> np.ndarray:
        return -0.45 * bump(t + 0.09, 0.025) + bump(t, 0.032, 0.042) - 0.6 * bump(t - 0.2, 0.07)

    return SimulatedSource(
        np.outer(_generalised(rng), _discharge_train(time, times, _heights(rng, times), wave)),
        times,
    )


def lateralised_periodic(rng: Generator, time: Wave) -> SimulatedSource:
    """PLED: sharp and slow waves every 0.8-1.5 s over one hemisphere, largest temporally or
    parietally.
    """
    period_s = rng.uniform(0.8, 1.5)
    times = recurring(rng, time[-1], 0.92 * period_s, 1.08 * period_s)

    def wave(t: np.ndarray) -> np.ndarray:
        return (
            0.4 * bump(t + 0.07, 0.022)
            - bump(t, 0.022)
            + 0.6 * bump(t - 0.075, 0.026)
            - 0.4 * bump(t - 0.22, 0.06)
        )

    return SimulatedSource(
        np.outer(_lateralised(rng), _discharge_train(time, times, _heights(rng, times), wave)),
        times,
    )


def eye_movement(rng: Generator, time: Wave) -> SimulatedSource:
    """EYEM: blinks, or gaze to left and right."""
    return (_blinks, _gaze)[rng.integers(2)](rng, time)


def _blinks(rng: Generator, time: Wave) -> SimulatedSource:
    """Positive over FP1 and FP2, for 200-400 ms."""
    times, width = recurring(rng, time[-1], 0.9, 2.2), rng.uniform(0.06, 0.1)
    train = _discharge_train(
        time, times, _heights(rng, times), lambda t: bump(t, width, 1.4 * width)
    )
    return SimulatedSource(np.outer(near("FP1", 0.45) + near("FP2", 0.45), train), times)


def _gaze(rng: Generator, time: Wave) -> SimulatedSource:
    """Saccades to alternating sides, of opposite sign at F7 and F8; the amplifier lets each
    position decay.
    """
    times, turn_s = recurring(rng, time[-1], 0.7, 1.8), rng.uniform(0.015, 0.05)
    turns = rng.choice([-1, 1]) * (-1.0) ** np.arange(len(times)) * _heights(rng, times)

    def wave(t: np.ndarray) -> np.ndarray:
        return np.exp(-np.clip(t, 0, None) / 0.9) / (1 + np.exp(-np.clip(t / turn_s, -50, 50)))

    return SimulatedSource(
        np.outer(near("F7", 0.5) - near("F8", 0.5), _discharge_train(time, times, turns, wave)),
        times,
    )


def artefact(rng: Generator, time: Wave) -> SimulatedSource:
    """ARTF: bursts of muscle activity, or pops of one electrode."""
    return (_muscle, _pops)[rng.integers(2)](rng, time)


def _muscle(rng: Generator, time: Wave) -> SimulatedSource:
    """Bursts of 20-80 Hz, independent at each electrode."""
    times, width = recurring(rng, time[-1], 1.0, 2.4), rng.uniform(0.1, 0.3)
    bursts = _discharge_train(time, times, _heights(rng, times), lambda t: bump(t - 0.2, width))
    field = near(rng.choice(_MUSCLES), 0.55) + rng.uniform() * near(rng.choice(_MUSCLES), 0.55)
    hum = noise(rng, (len(HEAD_ELECTRODES), len(time)), 1 / (time[1] - time[0]), band(20, 80))
    return SimulatedSource(np.outer(field, bursts) * hum, times)


def _pops(rng: Generator, time: Wave) -> SimulatedSource:
    """Steps at one electrode, either way, that decay within a second."""
    times, decay_s = recurring(rng, time[-1], 0.8, 2.4), rng.uniform(0.1, 0.4)
    heights = _heights(rng, times) * rng.choice([-1, 1], size=len(times))
    pops = _discharge_train(
        time, times, heights, lambda t: (t >= 0) * np.exp(-np.clip(t, 0, None) / decay_s)
    )
    return SimulatedSource(np.outer(near(rng.choice(_FOCI), 0.1), pops), times)


def slow_activity(rng: Generator, time: Wave) -> SimulatedSource:
    """BCKG: irregular delta or theta waves in one of the places where events occur too; the times
    mark nothing.
    """
    centre_hz = np.exp(rng.uniform(np.log(1.0), np.log(3.0)))
    waves = noise(
        rng,
        (1, len(time)),
        1 / (time[1] - time[0]),
        lambda f: bump(np.log(np.maximum(f, 0.1) / centre_hz), 0.5),
    )
    # At the places of the other classes, so that place alone does not give the class away.
    fields = (
        _generalised(rng),
        _lateralised(rng),
        near("FP1", 0.45) + near("FP2", 0.45),
        near("F7", 0.5) + near("F8", 0.5),
    )
    return SimulatedSource(rng.choice(fields)[:, None] * waves, recurring(rng, time[-1], 1.0, 1.6))


def seizure(rng: Generator, time: Wave) -> SimulatedSource:
    """A rhythmic discharge that slows from 5-8 to 3-4 Hz while it grows and spreads from a temporal
    focus.
    """
    progress = time / time[-1]
    frequency_hz = np.interp(progress, [0, 1], [rng.uniform(5, 8), rng.uniform(3, 4)])
    distance = ELECTRODE_DISTANCES[HEAD_ELECTRODES.index(rng.choice(_TEMPORAL))][:, None]
    field = np.exp(-0.5 * (distance / np.interp(progress, [0, 1], [0.45, 1.3])) ** 2)
    # The sum of the momentary frequency is the phase; electrodes farther away are later.
    phase = 2 * np.pi * np.cumsum(frequency_hz) * (time[1] - time[0]) - 0.6 * distance
    rhythm = np.sin(phase) + 0.45 * np.sin(2 * phase + 0.8) + 0.2 * np.sin(3 * phase + 1.6)
    return SimulatedSource(
        field * np.interp(progress, [0, 0.6, 1], [0.15, 1, 1]) * rhythm, time[:1]
    )
