"""Scores of folders of seizure events, found against annotated ones, as SzCORE's package
szcore-evaluation gives them.

Events are scored by :mod:`eegdm.evaluation.event_scores`, and beside them every second. That
package compares masks of 1 Hz, for events too, so times are cut to whole seconds before anything
is counted. docs/szcore.md says what of it is followed, and what is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm import artifacts
from eegdm.data.events import parse_rows, parse_seconds, read_cells, require_columns, shown
from eegdm.data.files import visible
from eegdm.errors import UserError
from eegdm.evaluation.event_scores import (
    EventCounts,
    average_over_subjects,
    count_events,
    event_scores,
)

KINDS = {"event_results": "events", "sample_results": "seconds"}
"""What is scored: its name in szcore-evaluation's JSON, and the attribute that counts it."""
NAMES = {
    "sensitivity": "sensitivity",
    "precision": "precision",
    "f1": "f1",
    "false_alarms_per_day": "fpRate",
}
"""Scores, and their names in szcore-evaluation's JSON."""
COUNTED = ("annotated", "found", "false_alarms")
SUFFIXES = (".json", ".csv")
EVENTS, PREDICTED = "_events.tsv", "_eeg_events.tsv"
"""How names of event files end: those of BIDS, and those that `eegdm predict` derives from a
recording ``*_eeg.edf``.
"""

MISSING, OTHER_LENGTH, NO_ROWS = "missing", "other length", "no rows"
_REASONS = {
    MISSING: "no file among the hypotheses",
    OTHER_LENGTH: "hypothesis of another recordingDuration",
    NO_ROWS: "hypothesis without rows",
}


class SeizureFile(NamedTuple):
    """What an event file says: its seizures (onset_s, duration_s, in whole seconds) and the length
    of the recording in whole seconds, None if the file has no rows.
    """

    seizures: pd.DataFrame
    recording_s: int | None


class ScoredRecording(NamedTuple):
    """What was counted in a recording.

    Attributes:
        file: its event file below the folder of the reference.
        subject: the name of its folder, such as sub-01.
        unread: why nothing counts as found in it; "" where a hypothesis was read.
    """

    file: str
    subject: str
    unread: str
    events: EventCounts
    seconds: EventCounts


class Evaluation(NamedTuple):
    """The recordings of a reference, and the hypotheses that belong to none of them."""

    recordings: list[ScoredRecording]
    extra: list[str]

    def of_subjects(self, kind: str) -> dict[str, list[EventCounts]]:
        """What was counted in each subject's recordings: ``kind`` is "events" or "seconds"."""
        counts: dict[str, list[EventCounts]] = {}
        for recording in self.recordings:
            counts.setdefault(recording.subject, []).append(getattr(recording, kind))
        return counts


def evaluate_folders(reference: Path, hypothesis: Path) -> Evaluation:
    """Compare the event files of two folders.

    Args:
        reference: the truth; ``sub-*/**/*_events.tsv``, in the columns of SzCORE.
        hypothesis: what is judged; for each file of the reference one of the same path, or of the
            name that `eegdm predict` gives it (see :data:`PREDICTED`).

    Raises:
        UserError: a folder or all hypotheses are missing, both are one folder, or what
            :func:`read_seizures` raises.
    """
    for folder in (reference, hypothesis):
        if not folder.is_dir():
            raise UserError(f"{folder}: is not a folder")
    if reference.samefile(hypothesis):
        raise UserError(
            f"{reference}: is given for both sides; predict into another folder with --out"
        )
    # What `eegdm predict` left beside the recordings is not the truth
    files = [file for file in _event_files(reference) if not file.endswith(PREDICTED)]
    if not files:
        raise UserError(
            f"{reference}: holds no event files as BIDS names them; looked for"
            " sub-*/**/*_events.tsv"
        )
    others = _event_files(hypothesis)
    taken = {file: _counterpart(file, set(others)) for file in files}
    if not any(taken.values()):
        raise UserError(
            f"{hypothesis}: has no file for any of the {len(files)} event files of {reference};"
            f" looked for {files[0]} and so on"
        )
    used = set(taken.values())
    return Evaluation(
        [
            _scored(file, reference / file, None if found is None else hypothesis / found)
            for file, found in taken.items()
        ],
        [file for file in others if file not in used],
    )


def read_seizures(path: Path) -> SeizureFile:
    """Read an event file of SzCORE.

    Raises:
        UserError: unreadable, a column is missing, an eventType is neither bckg nor a seizure, a
            time is not a number from 0 on, or the recording is shorter than a second.
    """
    cells = read_cells(path)
    require_columns(path, cells, ("onset", "duration", "eventType", "recordingDuration"))
    rows = parse_rows(path, zip(cells.index, cells.to_dict("records"), strict=True), _row)
    seizures = [(start, stop - start) for is_seizure, start, stop, _ in rows if is_seizure]
    return SeizureFile(
        pd.DataFrame(seizures, columns=["onset_s", "duration_s"], dtype=float),
        # The first row's, as szcore-evaluation takes it
        rows[0][-1] if rows else None,
    )


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the scores: first what szcore-evaluation writes, then those of subjects and
    recordings, with what was counted. A score without anything to divide by is None.
    """
    counts = {key: evaluation.of_subjects(kind) for key, kind in KINDS.items()}
    means = {key: average_over_subjects(of_subject) for key, of_subject in counts.items()}
    some = means["event_results"]
    return {
        **{key: _mean_and_std(mean) for key, mean in means.items()},
        "totals": {
            "subjects": some["subjects"],
            "recordings": len(evaluation.recordings),
            "hours": some["hours"],
            **{
                key: {
                    **{name: mean[name] for name in COUNTED},
                    "subjects_with": {NAMES[name]: n for name, n in mean["defined"].items()},
                }
                for key, mean in means.items()
            },
        },
        "subjects": {
            subject: {key: _scores(EventCounts.total(counts[key][subject])) for key in KINDS}
            for subject in counts["event_results"]
        },
        "recordings": [
            {
                "file": recording.file,
                "subject": recording.subject,
                "hypothesis": recording.unread or "read",
                **{key: _scores(getattr(recording, kind)) for key, kind in KINDS.items()},
            }
            for recording in evaluation.recordings
        ],
        "without_reference": evaluation.extra,
    }


def as_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return a row per recording and subject, and the mean and standard deviation over subjects;
    the column ``level`` says which.
    """
    numbers = as_json(evaluation)
    over_subjects = {
        level: {key: {name: numbers[key][name + end] for name in NAMES.values()} for key in KINDS}
        for level, end in (("mean", ""), ("std", "_std"))
    }
    rows = [
        *({"level": "recording", **row} for row in numbers["recordings"]),
        *({"level": "subject", "subject": who, **row} for who, row in numbers["subjects"].items()),
        *({"level": level, **row} for level, row in over_subjects.items()),
    ]
    return pd.json_normalize(rows).convert_dtypes()  # counts stay whole beside empty cells


def describe(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines of a short table, and what has to be known about it."""
    numbers = as_json(evaluation)
    yield _line("", "sensitivity", "precision", "F1", "false alarms per day")
    for key, kind in KINDS.items():
        cells = (
            _cell(numbers[key][name], numbers[key][f"{name}_std"], 1 if name == "fpRate" else 3)
            for name in NAMES.values()
        )
        yield _line(kind, *cells)
    totals = numbers["totals"]
    counted, n = totals["event_results"], totals["recordings"]
    yield (
        f"mean ± standard deviation over subjects: {totals['subjects']} subjects, {n} recordings,"
        f" {totals['hours']:.2f} h; {counted['annotated']} events, {counted['found']} of them"
        f" found, {counted['false_alarms']} false alarms"
    )
    for key, kind in KINDS.items():
        of_subjects = totals[key]["subjects_with"].items()
        few = [f"{k} with {name}" for name, k in of_subjects if k < totals["subjects"]]
        if few:
            yield (
                f"{kind}: of {totals['subjects']} subjects {', '.join(few)}; the others have"
                " nothing to divide by"
            )
    for reason, sentence in _REASONS.items():
        files = [row.file for row in evaluation.recordings if row.unread == reason]
        if files:
            yield (
                f"{sentence}: {len(files)} of {n} recordings, scored as if nothing had been found"
                f" in them ({_some(files)})"
            )
    if evaluation.extra:
        yield (
            f"hypotheses without a reference: {len(evaluation.extra)}, not scored"
            f" ({_some(evaluation.extra)})"
        )


def refuse_suffix(path: Path) -> None:
    """Refuse a file that is not to be JSON or CSV."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"out={path}: must end in {' or '.join(SUFFIXES)}")


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write the scores as JSON or CSV, by the suffix of ``path``.

    Raises:
        UserError: the suffix is another, or the file can't be written.
    """
    refuse_suffix(path)
    with artifacts.storage_faults(path.parent, "--out"):
        artifacts.make_folder(path.parent, "--out")
        if path.suffix == ".json":
            artifacts.write_json(path, as_json(evaluation))
            return
        with artifacts.atomic_path(path) as temporary:
            as_table(evaluation).to_csv(temporary, index=False)


# --------------------------------------------------------------------------------------- counting


def _event_files(folder: Path) -> list[str]:
    """The event files below the folders of subjects, as paths below ``folder``, sorted."""
    found = visible(folder, folder.glob(f"sub-*/**/*{EVENTS}"))
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _counterpart(file: str, among: set[str]) -> str | None:
    names = (file, file.removesuffix(EVENTS) + PREDICTED)
    return next((name for name in names if name in among), None)


def _scored(name: str, reference: Path, hypothesis: Path | None) -> ScoredRecording:
    truth = read_seizures(reference)
    if truth.recording_s is None:
        raise UserError(
            f"{reference}: has no rows, so the length of its recording is unknown; a recording"
            " without seizures has one row of eventType bckg"
        )
    claims, unread = SeizureFile(truth.seizures.iloc[:0], truth.recording_s), MISSING
    if hypothesis is not None:
        found = read_seizures(hypothesis)
        if found.recording_s == truth.recording_s:
            claims, unread = found, ""
        else:
            unread = NO_ROWS if found.recording_s is None else OTHER_LENGTH
    return ScoredRecording(
        name,
        name.partition("/")[0],
        unread,
        count_events(truth.seizures, claims.seizures, truth.recording_s),
        _count_seconds(truth.seizures, claims.seizures, truth.recording_s),
    )


def _row(row: dict[str, str]) -> tuple[bool, int, int, int]:
    """Whether a row is a seizure, its first second and the one after its last, and the seconds of
    the recording.
    """
    kind = row["eventType"]
    if kind != "bckg" and not kind.startswith("sz"):
        raise UserError(f"eventType={shown(kind)} must be bckg or begin with sz, as sz_foc does")
    onset, duration, recording_s = (
        parse_seconds(name, row[name]) for name in ("onset", "duration", "recordingDuration")
    )
    if recording_s < 1:
        raise UserError(f"recordingDuration={row['recordingDuration']} must be at least 1 s")
    return kind != "bckg", int(onset), int(onset + duration), int(recording_s)


def _count_seconds(truth: pd.DataFrame, claims: pd.DataFrame, n: int) -> EventCounts:
    annotated, claimed = (_mask(seizures, n) for seizures in (truth, claims))
    hits, alarms = annotated & claimed, claimed & ~annotated
    return EventCounts(int(annotated.sum()), int(hits.sum()), int(alarms.sum()), float(n))


def _mask(seizures: pd.DataFrame, n: int) -> np.ndarray:
    mask = np.zeros(n, bool)
    for start, length in seizures.astype(int).itertuples(index=False):
        mask[start : start + length] = True
    return mask


# ----------------------------------------------------------------------------------------- output


def _scores(counts: EventCounts) -> dict[str, Any]:
    return {
        **{NAMES[name]: value for name, value in event_scores(counts).items()},
        **{name: getattr(counts, name) for name in COUNTED},
        "hours": counts.duration_s / 3600,
    }


def _mean_and_std(mean: dict[str, Any]) -> dict[str, float | None]:
    return {
        key: value
        for name, other in NAMES.items()
        for key, value in ((other, mean[name]), (f"{other}_std", mean["std"][name]))
    }


def _cell(mean: float | None, std: float | None, digits: int) -> str:
    return "n/a" if mean is None else f"{mean:.{digits}f} ± {std:.{digits}f}"


def _line(name: str, *cells: str) -> str:
    return f"{name:9}" + "".join(f"{cell:17}" for cell in cells).rstrip()


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (" and so on" if len(files) > 3 else "")
