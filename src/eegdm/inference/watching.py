"""`eegdm watch`: a classifier at a recording while it comes in.

Windows, channels, filters, model and rule are those of `eegdm predict` of the finished recording. A
window is computed as soon as what comes later no longer changes its samples. When the recording has
ended, `eegdm predict` does what is left.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eegdm import artifacts
from eegdm.console import clock, say
from eegdm.errors import UserError
from eegdm.evaluation.decision import rule_of
from eegdm.inference.growing import Away, Growing, growing_file
from eegdm.inference.live import SETTLED_S, Live, Update, refuse_unknown_future
from eegdm.inference.prediction import Options
from eegdm.inference.prediction_files import Places
from eegdm.inference.prediction_folder import (
    Outputs,
    PredictionJob,
    classifier_of,
    predict_job,
    printed,
)
from eegdm.inference.stream import LslStream, StreamRecording, free_path
from eegdm.inference.unfinished import unfinished_work

LSL = "lsl:"
POLL_S = 0.2
SILENCE_S = 10.0
"""Without samples, after which that is said."""
LATE_S = 10.0
"""Behind the recording, from which that is said, and how often it is looked at."""


class Watch:
    """A recording or a stream that is watched: iterate for what comes about, then :meth:`finish`.

    Args:
        source: an EDF or BDF file that is being written, or ``lsl:NAME``, a stream of the Lab
            Streaming Layer, which is recorded into ``out``.
        model: a classifier's folder, checkpoint or hub id.
        out: the folder for results; beside the file by default.
        seconds: how much of the recording to watch; to its end by default.
        options: those of :class:`eegdm.inference.Options`, by name.

    Attributes:
        stop: set it to end the iteration.

    Raises:
        UserError: the source is not there; the model can't be read, or needs the whole recording
            before it can judge any of it; an option is out of range.
    """

    def __init__(
        self,
        source: str | Path,
        model: str | Path,
        out: str | Path | None = None,
        *,
        seconds: float | None = None,
        **options: Any,
    ) -> None:
        self.stop = threading.Event()
        self._source, self._model, self._seconds = str(source), str(model), seconds
        self._options = Options(**options)
        classifier = classifier_of(self._model)
        rule_of(classifier, **self._options.rule)
        refuse_unknown_future(classifier, self._options)
        if seconds is not None and not seconds > 0:
            raise UserError(f"seconds={seconds:g}: must be above 0")
        is_stream = self._source.startswith(LSL)
        if is_stream and out is None:
            raise UserError("out= is missing: the folder into which the stream is recorded")
        self._out = Path(self._source).parent if out is None else Path(out)
        artifacts.make_folder(self._out, "--out")
        name = self._source.removeprefix(LSL)
        self._stream = LslStream(name, self._options.unit) if is_stream else None
        stem = free_path(self._out, name).stem if is_stream else Path(name).stem
        self._work = self._out / f".{stem}.watch"
        self._watched: list[Live] = []

    def __iter__(self) -> Iterator[Update]:
        """Yield what comes about, until the recording ends or :attr:`stop` is set.

        Raises:
            UserError: why the recording can't be used.
        """
        with unfinished_work(self._work, "watch", {}, {"run": uuid.uuid4().hex}):
            for growing in self._recordings():
                try:
                    yield from self._updates(growing)
                except UserError as error:
                    name = str(growing.path)
                    if str(error).startswith(name):
                        raise
                    raise UserError(f"{name}: {error}") from error
                finally:
                    growing.close()

    def finish(self, outputs: Outputs | None = None) -> list[Path]:
        """Do what `eegdm predict` does of each recording; what is computed already is taken over
        where that is the same. Return the files that hold the results.

        Raises:
            UserError: a recording can't be used.
        """
        written: list[Path] = []
        for live in self._watched:
            say(
                f"watch: {live.path.name} is finished as by eegdm predict, which resumes this if it"
                " is interrupted"
            )
            try:
                written += self._finished(live, outputs or Outputs())
            except UserError as error:
                # Between two gaps of a stream there may be less than a window.
                if len(self._watched) == 1:
                    raise
                say(f"  failed   {error}")
        shutil.rmtree(self._work, ignore_errors=True)
        return written

    def _finished(self, live: Live, outputs: Outputs) -> list[Path]:
        job = PredictionJob(live.path, self._out, live.path.stem)
        chunks = live.reusable_chunks()
        return printed(predict_job(job, self._model, self._options, outputs, True, chunks))

    def _recordings(self) -> Iterator[Growing]:
        """The file; of a stream one after another, since a gap ends each."""
        unit = self._options.unit
        if self._stream is None:
            model = classifier_of(self._model)
            wanted = model.taken_for or model.channels
            yield growing_file(Path(self._source), unit, wanted, self._work)
            return
        while not self.stop.is_set():
            path = free_path(self._out, self._stream.name)
            yield StreamRecording(self._stream, path, unit)

    def _updates(self, growing: Growing) -> Iterator[Update]:
        Places.below(self._out, growing.path.stem).refuse_foreign()
        live: Live | None = None
        tables = _Tables(self._out, growing.path.stem)
        silence, pace = _Silence(growing.path.name), _Pace(growing.path.name)
        while not self.stop.is_set():
            try:
                growing.poll()
                silence.look(growing.n_times)
                if live is None and growing.n_times and growing.n_times >= growing.sfreq:
                    live = self._begin(growing)
                update = live.step(self._seconds) if live else None
            except Away as away:
                silence.say_since(str(away))
                self.stop.wait(POLL_S)
                continue
            if update is not None:
                if not tables.are_begun and (doubt := live.doubt() if live else None):
                    say(f"watch: {growing.path.name}, so far: {doubt}")
                tables.append(update)
                pace.say_of(update)
                yield update
                continue
            if live and live.is_over(self._seconds):
                self.stop.set()
            if growing.has_ended:
                break
            silence.say_since()
            self.stop.wait(POLL_S)

    def _begin(self, growing: Growing) -> Live:
        growing.fetch(0, round(growing.sfreq))
        chunks = self._work / growing.path.stem
        chunks.mkdir(exist_ok=True)
        live = Live(growing, classifier_of(self._model), self._options, chunks)
        self._watched.append(live)
        say(
            f"watch: {growing.path.name}, {live.n_channels} channels at {growing.sfreq:g} Hz; a"
            f" window is known {live.look_ahead_s:.1f} s after its end"
        )
        if live.scales_by_spread:
            say(
                f"watch: this classifier scales a recording by its spread; live rows come after"
                f" {SETTLED_S:g} s and use that of what has come"
            )
        return live


class _Tables:
    """The rows of a recording, added to files as they come about."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._windows = folder / f"{stem}_live_probabilities.tsv"
        self._events = folder / f"{stem}_live_events.tsv"
        self.are_begun = False

    def append(self, update: Update) -> None:
        """Add the rows of an update."""
        for path, rows in ((self._windows, update.windows), (self._events, update.ended)):
            rows.to_csv(
                path,
                sep="\t",
                index=False,
                float_format="%.7g",
                header=not self.are_begun,
                mode="a" if self.are_begun else "w",
            )
        self.are_begun = True


class _Silence:
    """Says when no samples come, and when they come again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n_times, self._since, self._is_said = 0, time.monotonic(), False

    def look(self, n_times: int) -> None:
        """See whether there are more samples than before."""
        if n_times <= self._n_times:
            return
        if self._is_said:
            silent_s = time.monotonic() - self._since
            say(f"watch: {self._name}: samples come again, after {silent_s:.0f} s")
        self._n_times, self._since, self._is_said = n_times, time.monotonic(), False

    def say_since(self, reason: str = "") -> None:
        """Say once that none come, if that has lasted, and why."""
        silent_s = time.monotonic() - self._since
        if silent_s > SILENCE_S and not self._is_said:
            why = f" ({reason})" if reason else ""
            say(f"watch: {self._name}: no new samples for {silent_s:.0f} s{why}, waiting")
            self._is_said = True


class _Pace:
    """Says when the windows lag behind the recording, and whether they come faster than real
    time.
    """

    def __init__(self, name: str) -> None:
        self._name, self._at = name, time.monotonic()
        self._onset_s: float | None = None
        self._said_s, self._is_slow = 0.0, False

    def say_of(self, update: Update) -> None:
        """Say it when the lag is long, each time that it has doubled, and when it is over."""
        onset_s, behind_s = float(update.windows.onset_s.iloc[-1]), update.behind_s
        passed_s = time.monotonic() - self._at
        if self._onset_s is not None and passed_s < LATE_S:
            return
        if self._onset_s is not None:
            self._judge(behind_s, (onset_s - self._onset_s) / passed_s)
        self._at, self._onset_s = time.monotonic(), onset_s

    def _judge(self, behind_s: float, rate: float) -> None:
        if behind_s <= LATE_S:
            if self._said_s:
                say(f"watch: {self._name}: has caught up with the recording")
            self._said_s, self._is_slow = 0.0, False
        elif behind_s > 2 * self._said_s or (rate < 1 and not self._is_slow):
            self._said_s, self._is_slow = behind_s, rate < 1
            state = "this computer can't keep up with it" if self._is_slow else "it is catching up"
            say(
                f"watch: {self._name}: {behind_s:.0f} s behind the recording, {rate:.2g} s of EEG"
                f" per second: {state}"
            )


def describe(update: Update) -> Iterator[str]:
    """Say in a line each what is new of events."""
    name = update.recording.stem
    for event in update.ended.itertuples():
        stop_s = event.onset_s + event.duration_s
        yield (
            f"{name} {clock(event.onset_s)} to {clock(stop_s)}: {event.label}"
            f" ({event.probability:.2f})"
        )
    for event in update.begun.itertuples():
        at = clock(event.onset_s)
        yield f"{name} {at}: {event.label} begins ({event.probability:.2f} so far)"
