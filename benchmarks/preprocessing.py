"""Preprocessing: size, speed and memory, beside a plain MNE sequence in the same run."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.montage import TCP, derive
from eegdm.data.synthetic.sources import HEAD_ELECTRODES

BY_HAND = "python -m benchmarks.preprocessing"
UNIT_UV, RANGE_UV = 0.1, (-3276.8, 3276.7)  # of 16 bits
NAMES = [f"EEG {name}-REF" for name in HEAD_ELECTRODES]
EVENT_S, LEAD_S, SFREQ_OUT = 1, 2, 200


class Scale(NamedTuple):
    """How much EEG is made for one run."""

    n_recordings: int  # whose preprocessing is timed
    minutes: float
    repeats: int
    day_hours: float
    n_short: int  # recordings of 4 s in one folder


FULL = Scale(n_recordings=16, minutes=30, repeats=3, day_hours=24, n_short=1000)
SMOKE = Scale(n_recordings=2, minutes=1, repeats=1, day_hours=0.1, n_short=8)


def run(smoke: bool = False) -> list[dict[str, object]]:
    """Measure everything; the rows of a table. The full run takes about 15 minutes, 8 GiB of disk
    and 4 GiB of memory.
    """
    scale = SMOKE if smoke else FULL
    rows = []
    for part in (size, speed, day, many):
        with tempfile.TemporaryDirectory(prefix="eegdm-benchmark-") as folder:
            rows += part(Path(folder), scale)
    return rows


def _row(
    measured: str, eegdm: str, compared: str = "", ratio: str = "", goal: str = ""
) -> dict[str, object]:
    return {
        "measured": measured,
        "EEGDM": eegdm,
        "compared with": compared,
        "ratio": ratio,
        "goal": goal,
    }


# --------------------------------------------------------------------------- synthetic recordings


def write_edf(path: Path, n_channels: int, sfreq: int, seconds: int, seed: int) -> None:
    """Write an EDF of any length in pieces of a minute: noise that falls with frequency, alpha,
    mains, offsets.
    """
    from scipy.signal import lfilter

    labels = (NAMES + [f"EEG X{i}-REF" for i in range(n_channels)])[:n_channels]
    fields = [(label, 16) for label in labels] + [("", 80)] * n_channels + [("uV", 8)] * n_channels
    for value in (*RANGE_UV, -32768, 32767):
        fields += [(str(value), 8)] * n_channels
    fields += [("", 80)] * n_channels + [(str(sfreq), 8)] * n_channels + [("", 32)] * n_channels
    head = [
        ("0", 8),
        ("X X X X", 80),
        ("Startdate X X X X", 80),
        ("01.01.00", 8),
        ("00.00.00", 8),
        (str(256 * (n_channels + 1)), 8),
        ("", 44),
        (str(seconds), 8),
        ("1", 8),
        (str(n_channels), 4),
    ]
    rng = np.random.default_rng(seed)
    offset, state = rng.uniform(-200, 200, (n_channels, 1)), np.zeros((n_channels, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write("".join(text.ljust(width) for text, width in head + fields).encode("ascii"))
        for start in range(0, seconds, 60):
            n = min(60, seconds - start)
            slow, state = lfilter(
                [1],
                [1, -0.99],
                4 * rng.standard_normal((n_channels, n * sfreq), dtype=np.float32),
                zi=state,
            )
            t = start + np.arange(n * sfreq) / sfreq
            uv = slow + 20 * np.sin(2 * np.pi * 10 * t) + 10 * np.sin(2 * np.pi * 50 * t) + offset
            digital = np.clip(np.rint(uv / UNIT_UV), -32768, 32767).astype("<i2")
            file.write(digital.reshape(n_channels, n, sfreq).transpose(1, 0, 2).tobytes())


def write_corpus(
    folder: Path, n: int, seconds: int, events_per_s: float, n_channels: int = 31, sfreq: int = 250
) -> None:
    """Recordings in TUEV's layout, each with so many events of 1 s a second."""
    for i in range(n):
        path = (
            folder / "edf" / ("train" if i % 4 else "eval") / f"s{i:04d}" / f"s{i:04d}_00000001.edf"
        )
        write_edf(path, n_channels, sfreq, seconds, seed=i)
        onsets = np.arange(0, seconds - 2 * EVENT_S, 1 / events_per_s)
        lines = (
            f"{k % len(TCP)},{t:.2f},{t + EVENT_S:.2f},{k % 6 + 1}\n" for k, t in enumerate(onsets)
        )
        path.with_suffix(".rec").write_text("".join(lines))


def preprocess(source: Path, root: Path, workers: int) -> Path:
    from eegdm.stages.preprocess import run as run_stage

    return run_stage(
        compose(["corpus=tuev", f"source={source}", f"root={root}", f"workers={workers}"])
    )


# ------------------------------------------------------------------------------------------- size


def size(folder: Path, scale: Scale) -> list[dict[str, object]]:
    """Bytes on disk for few and many events, and those of one pickled float64 window per event."""
    seconds = round(scale.minutes * 60)
    window = len(pickle.dumps(np.zeros((len(TCP), (EVENT_S + 2 * LEAD_S) * SFREQ_OUT))))
    rows = []
    for rate in (0.2, 1, 5):
        write_corpus(folder / f"{rate}", 1, seconds, rate)
        recordings = preprocess(folder / f"{rate}", folder / f"runs {rate}", 1)
        stored = sum(file.stat().st_size for file in recordings.rglob("*") if file.is_file())
        n_events = artifacts.open_artifact(recordings).summary["events"]
        net = 4 * len(TCP) * seconds * SFREQ_OUT
        rows.append(
            _row(
                f"bytes, {rate} events/s",
                f"{stored:,} ({stored / net - 1:+.2%} on 4 x channels x samples)",
                f"{n_events * window:,} (float64, per event)",
                f"{n_events * window / stored:.2f}",
                "+1 %",
            )
        )
    return rows


# ------------------------------------------------------------------------------------------ speed


def plain_mne(files: Sequence[Path], out: Path) -> None:
    """The plain sequence: read, filter all channels, notch, resample, derive, one float64 pickle
    per event.
    """
    import mne

    for file in files:
        raw = mne.io.read_raw_edf(file, preload=True, verbose="ERROR")
        raw.filter(0.1, 75, n_jobs=1, verbose="ERROR")
        raw.notch_filter(50, n_jobs=1, verbose="ERROR")
        raw.resample(SFREQ_OUT, n_jobs=1, verbose="ERROR")
        rows = [
            [raw.ch_names.index(name) for name in (d.plus, d.minus) if name]
            for d in derive(raw.ch_names)
        ]
        data = raw.get_data()
        bipolar = np.stack([data[plus] - data[minus] for plus, minus in rows]) * 1e4
        n_times = bipolar.shape[1]
        for k, line in enumerate(file.with_suffix(".rec").read_text().splitlines()):
            start = round((float(line.split(",")[1]) - LEAD_S) * SFREQ_OUT)
            window = np.take(
                bipolar,
                np.arange(start, start + (EVENT_S + 2 * LEAD_S) * SFREQ_OUT) % n_times,
                axis=1,
            )
            with (out / f"{file.stem}-{k}.pkl").open("wb") as stream:
                pickle.dump({"signal": window, "label": line}, stream)


def speed(folder: Path, scale: Scale) -> list[dict[str, object]]:
    """Hours of EEG per second of wall clock, 31 channels at 250 Hz, an event a second; alternating,
    the best of each.
    """
    import mne.filter  # noqa: F401 - imported before the clock starts, as is what the main process of preprocess needs

    import eegdm.stages.preprocess  # noqa: F401

    write_corpus(folder / "corpus", scale.n_recordings, round(scale.minutes * 60), 1)
    files = sorted((folder / "corpus").rglob("*.edf"))
    hours = scale.n_recordings * scale.minutes / 60

    def sequence(into: Path) -> None:
        into.mkdir(parents=True)
        plain_mne(files, into)

    ways: dict[str, Callable[[Path], Any]] = {
        "MNE": sequence,
        **{
            f"{n} workers": functools.partial(preprocess, folder / "corpus", workers=n)
            for n in (1, 2)
        },
    }
    best = {name: (np.inf, np.inf) for name in ways}  # seconds by the clock, and of all processors
    for repeat in range(scale.repeats):
        for name, way in ways.items():
            begun, before = time.perf_counter(), _processor_s()
            way(folder / f"{name} {repeat}")
            took = time.perf_counter() - begun, _processor_s() - before
            best[name] = min(best[name][0], took[0]), min(best[name][1], took[1])
    told = {
        name: f"{hours / clock:.3f} h/s, {processors / hours:.2f} processor s/h"
        for name, (clock, processors) in best.items()
    }
    return [
        _row(
            f"preprocess, {n} worker{'s' * (n > 1)}",
            told[f"{n} workers"],
            f"{told['MNE']} (plain MNE)",
            f"{best['MNE'][0] / best[f'{n} workers'][0]:.2f},"
            f" {best['MNE'][1] / best[f'{n} workers'][1]:.2f} by processor time",
            f">= {goal}",
        )
        for n, goal in ((1, 2.5), (2, 4))
    ]


def _processor_s() -> float:
    """Processor time of this process and of those it has waited for; a busy machine changes it less
    than the clock.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


# -------------------------------------------------------------------------------------------- day


def run_command(*words: object) -> tuple[float, float, str]:
    """Run `eegdm` in a process of its own: seconds, GiB of its largest process, what it said."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "eegdm", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"eegdm {words} ended with status {process.returncode}: {said}")
    return time.perf_counter() - begun, usage.ru_maxrss / 2**20, said


def mne_channel(file: Path, plus: str, minus: str) -> np.ndarray:
    """One derived channel as MNE makes it of the whole recording, in 100 µV."""
    import mne

    raw = mne.io.read_raw_edf(file, include=[plus, minus], preload=True, verbose="ERROR")
    data = raw.get_data()
    one = mne.io.RawArray(
        data[[0]] - data[[1]], mne.create_info(1, raw.info["sfreq"], "eeg"), verbose="ERROR"
    )
    one.filter(0.1, 75, verbose="ERROR").notch_filter(50, verbose="ERROR").resample(
        SFREQ_OUT, verbose="ERROR"
    )
    return one.get_data()[0] * 1e4


def day(folder: Path, scale: Scale) -> list[dict[str, object]]:
    """A long recording: memory of the worker, and the difference from MNE on one channel, both ends
    included.
    """
    path = folder / "corpus" / "edf" / "train" / "day" / "day_00000001.edf"
    write_edf(path, 32, 500, round(scale.day_hours * 3600), seed=1)
    words = [
        "preprocess",
        "corpus=tuev",
        f"source={folder / 'corpus'}",
        f"root={folder / 'runs'}",
        "events=none",
        "workers=1",
    ]
    seconds, gib, _ = run_command(*words)
    (file,) = (folder / "runs").rglob("signals/*.npy")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # its memory ends with it
        expected = pool.apply(mne_channel, (path, "EEG FP1-REF", "EEG F7-REF"))
    found = np.load(file, mmap_mode="r")[TCP.index("FP1-F7")]
    error = np.abs(found - expected) / np.abs(expected).max()
    ends = max(error[: 60 * SFREQ_OUT].max(), error[-60 * SFREQ_OUT :].max())
    name = f"{scale.day_hours:g} h, 32 channels, 500 Hz"
    return [
        _row(f"{name}: wall clock", f"{seconds:.0f} s ({scale.day_hours / seconds:.3f} h/s)"),
        _row(f"{name}: memory of the worker", f"{gib:.2f} GiB", goal="< 2 GiB"),
        _row(
            f"{name}: largest difference",
            f"{error.max():.1e} of the largest amplitude; {ends:.1e} in the first and last minute",
            "MNE on the whole channel",
            goal="<= 1e-5",
        ),
    ]


# ------------------------------------------------------------------------------------------- many


def many(folder: Path, scale: Scale) -> list[dict[str, object]]:
    """Many short recordings: killed half-way, resumed, described, and run again when finished."""
    write_corpus(folder / "corpus", scale.n_short, 4, 1, sfreq=200)
    words = ["preprocess", "corpus=tuev", f"source={folder / 'corpus'}", f"root={folder / 'runs'}"]
    recordings = folder / "runs" / "tuev" / "base" / "recordings"
    killed_s, n_before = _killed(words, recordings, scale.n_short // 2)
    resumed_s, _, said = run_command(*words)
    n = f"{scale.n_short:,} recordings"
    rows = [
        _row(f"{n}: start, killed with {n_before} finished", f"{killed_s:.1f} s"),
        _row(
            f"{n}: resumed to the end",
            f"{resumed_s:.1f} s ({said.splitlines()[-1].removeprefix('preprocess: ')})",
        ),
    ]
    finished = functools.partial(compose, words[1:])
    for name, work in (
        ("finished run again", lambda: _stage(finished)),
        ("info", lambda: _info(recordings)),
    ):
        begun = time.perf_counter()
        work()
        rows.append(
            _row(
                f"{n}: {name}, after imports", f"{time.perf_counter() - begun:.2f} s", goal="< 3 s"
            )
        )
    return rows


def _killed(words: list[str], recordings: Path, after: int) -> tuple[float, int]:
    """Start a run and kill it when so many recordings are finished; seconds and how many were."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "eegdm", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list(recordings.glob("parts/*.json"))) < after:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.perf_counter() - begun, len(list(recordings.glob("parts/*.json")))


def _stage(config: Callable[[], Any]) -> None:
    from eegdm.stages import preprocess as stage

    stage.run(config())


def _info(recordings: Path) -> None:
    from eegdm.info import describe_artifact

    list(describe_artifact(recordings))


# ------------------------------------------------------------------------------------------- main


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """The rows as a table."""
    lines = [
        list(rows[0]),
        ["---"] * len(rows[0]),
        *([str(value) for value in row.values()] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(as_markdown(run(smoke="--smoke" in sys.argv[1:])))
