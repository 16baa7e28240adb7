"""`eegdm find`: a table of the stretches that are most like one, a page with their traces, and
copies of the recordings with the matches in them.
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from eegdm import __version__, artifacts
from eegdm.console import say
from eegdm.data.files import file_name
from eegdm.features.find_page import match_words, write_find_page
from eegdm.features.finding import BAND_POWER, TOP, Found, Reading, Stretch, find_in, open_features
from eegdm.features.making import default_name, model_of
from eegdm.inference.annotated_copy import copy_name, refuse_copy, write_copy
from eegdm.inference.prediction_files import NO_DEVICE
from eegdm.inference.preparation import Prepared
from eegdm.inference.unfinished import unfinished_work

FOUND = Path("runs") / "found"
_DECIMALS = {"onset": 4, "duration": 4, "distance": 4, "nearness": 2}
_COLUMN_DESCRIPTIONS = {
    "onset": {"Description": "start of the match, counted from the first sample", "Units": "s"},
    "duration": {"Description": "length of the match", "Units": "s"},
    "trial_type": {"Description": "always similar: the stretch is like the query"},
    "file": {"Description": "the recording's file, below the folder of recordings"},
    "recording": {"Description": "the recording's name in the folder of features"},
    "subject": {"Description": "whose recording it is"},
    "channel": {"Description": "the nearest channel; n/a where all channels were compared"},
    "distance": {
        "Description": (
            "root mean square of the differences of features between match and query, as multiples"
            " of the spread of each feature in the person"
        )
    },
    "nearness": {
        "Description": (
            "robust z-score of the log distance among all windows of the person; greater is nearer"
        )
    },
}


def find_files(
    source: Path,
    like: str,
    model: str | None = None,
    out: Path | None = None,
    *,
    channel: str | None = None,
    top: int = TOP,
    features: str = BAND_POWER,
    copy: str | None = None,
    keep_identity: bool = False,
    **options: Any,
) -> list[Path]:
    """Write what :func:`eegdm.find` finds; return the files.

    Args:
        out: the folder to write, by default below `runs/found`.
        copy: "edf" or "fif": also write a copy of each recording that has a match, with its matches
            as annotations.
        keep_identity: keep what the headers say of patient and date in the copies.

    Raises:
        UserError: as :func:`eegdm.find`; a copy can't be made, or ``out`` not be written.
    """
    stretch = Stretch.parse(like)
    own_model = model_of(source) if model is None else model
    folder = FOUND / _default_folder(source, own_model, stretch, channel) if out is None else out
    table, sidecar, page = (folder / f"found.{suffix}" for suffix in ("tsv", "json", "html"))
    with artifacts.storage_faults(folder, "--out"):
        store, reading = open_features(source, stretch, model, features, options)
        artifacts.make_folder(folder, "--out")
        work = folder / ".find.eegdm"
        with unfinished_work(work, "find", {"features": store.artifact.fingerprint}, {}):
            found = find_in(work, store, reading, stretch, channel, top)
            if copy is not None:
                for file in found.matches.file.unique():
                    refuse_copy(reading.root / file, copy)
            write_find_page(page, found, functools.partial(_prepared, reading, work))
            written = [page]
            if copy is not None:
                written += _write_copies(folder, found, copy, work, keep_identity, reading)
            _write_events(table, sidecar, found.matches, found)
        shutil.rmtree(work, ignore_errors=True)
    for note in found.notes:
        say(f"  noted    {note}")
    if len(found.matches):
        say(f"find: the nearest is {match_words(next(found.matches.itertuples()))}")
    return [table, *written]


def _default_folder(source: Path, model: str, stretch: Stretch, channel: str | None) -> str:
    at = f"{Path(stretch.file).stem}@{stretch.start_s:g}-{stretch.stop_s:g}"
    parts = [default_name(source, model), at, *([] if channel is None else [channel])]
    return file_name("-".join(parts))


def _prepared(reading: Reading, work: Path, file: str) -> Prepared:
    return reading.prepare(file, work)[0]


def _write_copies(
    folder: Path, found: Found, kind: str, work: Path, keep_identity: bool, reading: Reading
) -> list[Path]:
    written = []
    for file, own in found.matches.groupby("file", sort=False):
        original = reading.root / str(file)
        stem = file_name(own.recording.iloc[0])
        path = folder / copy_name(stem, original, kind)
        # The sidecar first: by it a copy below the folder of recordings is known for one.
        _write_events(folder / f"{stem}_events.tsv", folder / f"{stem}_events.json", own, found)
        events = pd.DataFrame(
            {
                "onset_s": own.onset,
                "duration_s": own.duration,
                "label": [f"similar {n:.1f}" for n in own.nearness],
            }
        )
        write_copy(path, original, events, kind, work, keep_identity, reading.options.unit)
        written.append(path)
    return written


def _write_events(table: Path, sidecar: Path, matches: pd.DataFrame, found: Found) -> None:
    """Write matches in the columns of BIDS events, and what they mean beside them."""
    artifacts.write_json(
        sidecar,
        {
            **_COLUMN_DESCRIPTIONS,
            "GeneratedBy": {"Name": "eegdm", "Version": __version__},
            "Notice": NO_DEVICE,
            "Query": asdict(found.query),
            "Features": found.features,
            "Windows": found.n_windows,
            "People": found.n_people,
            "Notes": found.notes,
        },
    )
    with artifacts.atomic_path(table) as temporary:
        matches.round(_DECIMALS).to_csv(temporary, sep="\t", index=False, na_rep="n/a")
