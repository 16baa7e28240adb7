"""`eegdm predict`: one recording or a folder of them; what is finished is not done again, one
failure is one line.
"""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdm import artifacts
from eegdm.checkpoints.load import load_classifier
from eegdm.config import CorpusConfig
from eegdm.console import as_options, say, track
from eegdm.data.corpora import describe_people, survey
from eegdm.data.files import signal_state
from eegdm.errors import UserError, failure_reason
from eegdm.evaluation.decision import EVENTS, RECORDING, RecordingDecision, rule_of
from eegdm.executor import map_unordered
from eegdm.inference.annotated_copy import copy_name, refuse_copy, write_copy
from eegdm.inference.prediction import Options, predict_in, refuse_unused_calibration
from eegdm.inference.prediction_files import (
    Places,
    finished_sidecar,
    write_decisions,
    write_sidecar,
    write_tables,
)
from eegdm.inference.unfinished import unfinished_work

if TYPE_CHECKING:
    from eegdm.models.eegdm import EEGDM


OPTIONS = tuple(field.name.removesuffix("_s") for field in fields(Options))
"""The options of `eegdm predict` that a message may name."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to write beside events and probabilities.

    Attributes:
        report: a page to read in a browser.
        copy: "edf" or "fif": a copy of the recording with the events in it; None for none.
        keep_identity: keep patient, recording and date in the copy's header.
    """

    report: bool = True
    copy: str | None = None
    keep_identity: bool = False


class PredictionJob(NamedTuple):
    """A recording, where its results go (``folder / stem``), and whose it is, if that is known."""

    file: Path
    folder: Path
    stem: str
    subject: str = ""


class PredictionOutcome(NamedTuple):
    """What came of a recording."""

    files: list[Path]
    n_events: int
    decision: RecordingDecision | None
    duration_s: float
    notes: list[str]
    was_finished: bool


def predict_path(
    path: Path,
    model: str,
    out: Path | None = None,
    options: Options | None = None,
    outputs: Outputs | None = None,
    workers: int = 1,
    strict: bool = False,
    cluster: str | None = None,
) -> list[Path]:
    """Mark the events in a file, or in every recording below a folder, or decide about each as a
    whole; return the files that hold the results.

    Args:
        path: a recording, or a folder.
        model: a classifier's folder, checkpoint or hub id.
        out: where results go, in subfolders as below ``path``; by default beside each recording.
        workers: processes that share the recordings of a folder.
        strict: end with an error if any recording of a folder failed.
        cluster: address of a dask scheduler whose workers do a folder instead.

    Raises:
        UserError: the file can't be used; there is no recording below the folder; or all failed, or
            some with ``strict``.
    """
    options, outputs = options or Options(), outputs or Outputs()
    work = functools.partial(predict_job, model=model, options=options, outputs=outputs)
    if not path.is_dir():
        return printed(work(PredictionJob(path, out or path.parent, path.stem), progress=True))
    # Faults of the rule and of the folder are reported once, not for each recording.
    rule = rule_of(classifier_of(model), **options.rule)
    refuse_unused_calibration(classifier_of(model), options)
    if out is not None:
        artifacts.make_folder(out, "--out")
    jobs = find_jobs(path, out, say_people=rule.decide == RECORDING)
    say(f"predict: {len(jobs)} recordings below {path}")
    written, failed, events, hours = [], 0, 0, 0.0
    decisions: dict[PredictionJob, RecordingDecision] = {}
    for job, result in track(map_unordered(work, jobs, workers, cluster), "predict", len(jobs)):
        if isinstance(result, BaseException):
            failed += 1
            say(f"  failed   {_one_line(job, result)}")
        else:
            written += result.files
            events, hours = events + result.n_events, hours + result.duration_s / 3600
            state = "finished before" if result.was_finished else "done"
            noted = f"; notes: {len(result.notes)}, in its sidecar" if result.notes else ""
            counted = f"{result.n_events} events in {result.duration_s:.0f} s"
            if result.decision is not None:
                decisions[job] = result.decision
                counted = result.decision.sentence()
            say(f"  {state}   {job.stem}: {counted}{noted}")
    found = counted_labels(decisions.values()) if decisions else f"{events} events"
    say(
        f"predict: {len(jobs) - failed} of {len(jobs)} recordings, {hours:.2f} h, {found};"
        f" {failed} failed"
    )
    if decisions:
        written += _write_summary(out or path, path, jobs, decisions)
    if failed == len(jobs) or (strict and failed):
        raise UserError(
            f"{path}: {failed} of {len(jobs)} recordings failed, the reasons are above; mend them"
            " and run the command again"
        )
    return written


def _write_summary(
    folder: Path,
    source: Path,
    jobs: Sequence[PredictionJob],
    decisions: Mapping[PredictionJob, RecordingDecision],
) -> Iterator[Path]:
    """Write a row per recording and, where somebody has several, a row per person; yield the
    files.
    """
    path = folder / "eegdm_recordings.tsv"
    rows = [
        (
            {"file": job.file.relative_to(source).as_posix(), "subject": job.subject},
            decisions.get(job),
        )
        for job in jobs
    ]
    write_decisions(path, rows)
    yield path
    own: dict[str, list[RecordingDecision]] = {}
    for job in jobs:
        if job in decisions:
            own.setdefault(job.subject, []).append(decisions[job])
    if len(own) < len(decisions):
        people = {who: RecordingDecision.of_recordings(each) for who, each in own.items()}
        path = folder / "eegdm_people.tsv"
        write_decisions(path, [({"subject": who}, people[who]) for who in people])
        say(f"predict: {len(people)} people, {counted_labels(people.values())}")
        yield path


def counted_labels(decisions: Iterable[RecordingDecision]) -> str:
    """Say how many decisions are of each class."""
    count = Counter(one.label for one in decisions)
    return ", ".join(f"{label} {n}" for label, n in sorted(count.items()))


def find_jobs(folder: Path, out: Path | None, say_people: bool = False) -> list[PredictionJob]:
    """List the recordings below a folder, as preprocess does: without the copies that eegdm wrote
    there and the later parts of split recordings.

    Args:
        say_people: print whose they are taken to be.
    """
    found = survey(CorpusConfig(name="folder", source=str(folder), events="none"))
    for line in describe_people(found) if say_people else filter(None, [found.left_out]):
        say(f"predict: {line}")
    return [
        PredictionJob(
            s.file,
            out / Path(s.recording).parent if out else s.file.parent,
            Path(s.recording).name,
            s.subject,
        )
        for s in found.sources
    ]


# ---------------------------------------------------------------------------------- one recording


def predict_job(
    job: PredictionJob,
    model: str,
    options: Options,
    outputs: Outputs,
    progress: bool = False,
    chunks: Path | None = None,
) -> PredictionOutcome:
    """Do one recording, or what is left of it.

    Args:
        chunks: a folder that holds chunks of its windows already; they are moved from there.

    Raises:
        UserError: why it can't be used.
    """
    with artifacts.storage_faults(job.folder, "--out"):
        if not job.file.exists():
            raise UserError(f"{job.file} does not exist")
        if options.calibration is not None and not Path(options.calibration).exists():
            raise UserError(f"calibration={options.calibration}: does not exist")
        if outputs.copy is not None:
            refuse_copy(job.file, outputs.copy)
        return _predict_job(job, classifier_of(model), options, outputs, progress, chunks)


def _predict_job(
    job: PredictionJob,
    classifier: EEGDM,
    options: Options,
    outputs: Outputs,
    progress: bool,
    chunks: Path | None,
) -> PredictionOutcome:
    places, rule = Places.below(job.folder, job.stem), rule_of(classifier, **options.rule)
    places.refuse_foreign()
    content = _input_state(job, classifier, options)
    plan = {**content, "options": {**options.content, **asdict(rule)}}
    # The plan is compared with one that was read from JSON, which knows no tuples.
    plan["options"] |= {
        name: list(value) for name, value in plan["options"].items() if isinstance(value, tuple)
    }
    wanted = [places.events, places.probabilities]
    wanted += [places.report] if outputs.report else []
    wanted += (
        [places.events.with_name(copy_name(job.stem, job.file, outputs.copy))]
        if outputs.copy
        else []
    )
    if rule.decide == EVENTS:
        del plan["options"]["decide"]  # as 0.1.0 wrote it, whose work is not done again
    done = finished_sidecar(places, plan, wanted)
    if done is None:
        artifacts.make_folder(places.events.parent, "--out")
        artifacts.refuse_long_names([*wanted, places.sidecar], "rename the recording")
        with unfinished_work(places.work, "prediction", options.content, content):
            for chunk in sorted(chunks.glob("chunk-*.npy")) if chunks else ():
                chunk.replace(places.work / chunk.name)
            prediction, prepared = predict_in(places.work, job.file, classifier, options, progress)
            write_tables(places, prediction)
            if outputs.report:
                from eegdm.inference.prediction_page import write_page

                write_page(places.report, job.file.name, prediction, prepared, classifier, rule)
            if outputs.copy:
                write_copy(
                    wanted[-1],
                    job.file,
                    prediction.events,
                    outputs.copy,
                    places.work,
                    outputs.keep_identity,
                    options.unit,
                )
            # Last, since with it the recording counts as finished.
            write_sidecar(places, prediction, plan)
    shutil.rmtree(places.work, ignore_errors=True)
    sidecar = done or artifacts.read_json(places.sidecar)
    n_events, duration_s, notes = (
        sidecar[name] for name in ("Events", "RecordingDuration", "Notes")
    )
    decision = RecordingDecision(**sidecar["Decision"]) if sidecar.get("Decision") else None
    return PredictionOutcome(
        wanted, n_events, decision, duration_s, notes, was_finished=done is not None
    )


def _input_state(job: PredictionJob, model: EEGDM, options: Options) -> dict[str, Any]:
    """What tells that recording, calibration and model have not changed."""
    from eegdm.models.pretrained import weights_fingerprint

    of_person = {}
    if options.calibration is not None:
        file = Path(options.calibration)
        of_person = {"calibration": [file.name, *signal_state(file)]}
    return {
        **of_person,
        "recording": [job.file.name, *signal_state(job.file)],
        "model": weights_fingerprint(model),
        "settings": artifacts.fingerprint(model.config),
    }


@lru_cache(maxsize=1)
def classifier_of(model: str) -> EEGDM:
    """Load a classifier once in each process."""
    return load_classifier(model)


def printed(outcome: PredictionOutcome) -> list[Path]:
    """Print what is to be said of a recording, and return its files."""
    if outcome.was_finished:
        say("predict: finished before; remove its *_events.json to do it again")
    if outcome.decision is not None:
        say(f"predict: {outcome.decision.sentence()}")
    for note in outcome.notes:
        say(f"  noted    {note}")
    return outcome.files


def _one_line(job: PredictionJob, error: BaseException) -> str:
    text = as_options(failure_reason(error), OPTIONS)
    return text if text.startswith(str(job.file)) else f"{job.file}: {text}"
