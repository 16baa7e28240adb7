"""`eegdm suggest`: which windows to mark next, so that few marks teach a detector much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from eegdm import artifacts
from eegdm.console import say
from eegdm.data.events import read_event_table
from eegdm.errors import UserError
from eegdm.features.detector import (
    as_marked,
    backbone_of,
    labels_of,
    open_tokens,
    say_open_rows,
    touched,
)
from eegdm.features.making import default_name, model_of, origin_of
from eegdm.features.store import FeatureStore
from eegdm.features.suggestions import Suggestions, choose_windows, learnable, think
from eegdm.inference.preparation import PreparationSettings

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

SUGGESTIONS = Path("runs") / "suggestions"
PAGE, TO_MARK = "suggest.html", "to_mark.csv"
COLUMNS = ["file", "onset_s", "duration_s", "label", "subject"]
"""Of the table to fill in."""


def suggest(
    source: str | Path,
    table: str | Path | None = None,
    out: str | Path | None = None,
    model: SSMDP | EEGDM | str | Path | None = None,
    *,
    n: int = 10,
    **options: Any,
) -> Suggestions:
    """Suggest windows to mark: such as stand for many that a detector of the marks so far is unsure
    of and that are unlike those marked, spread over people.

    Until two labels are marked twice or more, windows are suggested that stand for most others. The
    same call with the same marks suggests the same windows. A window that a row of the table
    touches is not suggested again, whether the row has a label or not.

    Args:
        source: a folder with recordings at any depth, or one that `eegdm embed` wrote of them.
        table: marks so far, as for :func:`eegdm.fit`. A row without a label is not learned from.
            Without it, the labels that the folder of features has stay.
        out: the folder for the page and the table to fill in; by default
            `runs/suggestions/<name of source>-<name of model>`.
        model: a backbone or a classifier, or its folder, checkpoint or hub id; the packaged
            ``mini`` by default, or the model that made the features in ``source``.
        n: how many windows; of nobody more than n divided by the number of people, rounded up.
        options: those of :func:`eegdm.embed_folder`, such as channels, missing, notch, step_s,
            device or workers.

    Raises:
        UserError: as :func:`eegdm.fit`, but for marks that are too few; every window is marked; the
            recordings are not where they were; the last table to fill in holds labels that are not
            in ``table``.
    """
    source = Path(source)
    if n < 1:
        raise UserError(f"n={n}: at least one window must be suggested")
    store = open_tokens(source, table, model, options)
    model = model_of(source) if model is None else model
    folder = Path(out) if out is not None else SUGGESTIONS / default_name(source, model)
    _refuse_to_overwrite(folder / TO_MARK, table, store)
    recordings = _recordings_of(store)
    reader = backbone_of(store, model)
    store = replace(store, recordings=store.recordings[store.recordings.status == "ok"])
    say_open_rows("suggest", store.events)
    is_open = ~touched(store.windows, store.events).to_numpy(bool)
    if not is_open.any():
        raise UserError(
            f"all {len(is_open)} windows are in the table already; there is nothing left to suggest"
        )
    marked = as_marked(store, learnable(labels_of(store), store.windows.recording))
    read = marked.read(len(reader.spec.query))
    thought = think(marked.windows, read)
    if thought is None:
        say(
            "suggest: no two labels are marked twice yet, so the windows are those that stand for"
            " most others"
        )
    windows = marked.windows
    rows, speaks_for = choose_windows(read, is_open, windows.group["people"], n, thought)
    about = ["recording", "file", "subject"]
    chosen = store.windows.iloc[rows].merge(store.recordings[about], on="recording", how="left")
    found = Suggestions(
        chosen[[*about, "onset_s", "duration_s"]].assign(speaks_for=speaks_for),
        thought and pd.DataFrame(thought.probability[rows], columns=thought.classes),
        {name: int((windows.label == k).sum()) for k, name in enumerate(windows.classes)},
        int(is_open.sum()),
        folder,
    )
    _write(found, recordings, reader.preparation(origin_of(store.path).options))
    say(f"suggest: {found.sentence()}")
    return found


# ------------------------------------------------------------------------------------------- files


def _recordings_of(store: FeatureStore) -> Path:
    """The folder of the recordings, whose traces are to be shown."""
    folder = origin_of(store.path).source
    if not folder.is_dir():
        raise UserError(
            f"{store.path}: the folder {folder} that it was made from is not there, and traces of"
            " its recordings are to be shown; run the command on the folder of recordings"
        )
    return folder


def _refuse_to_overwrite(path: Path, table: str | Path | None, store: FeatureStore) -> None:
    """Refuse to write over labels that somebody has filled in."""
    if not path.is_file():
        return
    if table is not None and Path(table).is_file() and path.samefile(table):
        raise UserError(
            f"table={table}: is the table to fill in, which is written again; add its rows to a"
            " table of your own, or choose another --out"
        )
    rows = read_event_table(path).merge(
        store.recordings[["file", "recording"]].astype(object), on="file", how="left"
    )
    known = set(zip(store.events.recording, store.events.onset_s.round(3), strict=True))
    filled = rows[rows.label != ""]
    lost = [
        row for row in filled.itertuples() if (row.recording, round(row.onset_s, 3)) not in known
    ]
    if lost:
        raise UserError(
            f"{path}: holds {len(lost)} labels that are not in the table of marks, such as"
            f" {lost[0].label!r} for {lost[0].file} at {lost[0].onset_s:g} s; add its rows to that"
            " table, or choose another --out"
        )


def _write(found: Suggestions, recordings: Path, settings: PreparationSettings) -> None:
    from eegdm.features.suggestion_page import write_suggestion_page

    folder = found.path
    with artifacts.storage_faults(folder, "--out"):
        artifacts.make_folder(folder, "--out")
        write_suggestion_page(folder / PAGE, found, recordings, settings)
        with artifacts.atomic_path(folder / TO_MARK) as temporary:
            found.windows.assign(label="")[COLUMNS].to_csv(temporary, index=False)
