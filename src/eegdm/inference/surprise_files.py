"""`eegdm surprise`: a table of every second and channel of a recording, and a page with the traces
of its strangest stretches.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from eegdm import artifacts
from eegdm.console import say
from eegdm.data.files import signal_state
from eegdm.errors import UserError
from eegdm.inference.surprising import SurpriseOptions, in_words, surprise_in
from eegdm.inference.unfinished import unfinished_work

_DECIMALS = {"surprise": 3, "change_db": 2, "population": 3}


class SurprisePlaces(NamedTuple):
    """Where the files of a recording go."""

    table: Path
    page: Path
    work: Path
    """A folder for unfinished work, gone at the end."""

    @classmethod
    def of(cls, file: Path, out: Path | None) -> SurprisePlaces:
        table = out or file.with_name(f"{file.stem}_surprise.tsv")
        return cls(table, table.with_suffix(".html"), table.with_name(f".{table.stem}.eegdm"))


def surprise_file(
    file: Path,
    model: str = "mini",
    out: Path | None = None,
    options: SurpriseOptions | None = None,
) -> list[Path]:
    """Write the surprise of every second and channel, and a page beside it; return where.

    The table has the columns of :attr:`eegdm.inference.surprising.Surprise.seconds`.

    Args:
        out: X.tsv or X.parquet; the page is X.html.

    Raises:
        UserError: no such file, the suffix of ``out`` is unknown, ``out`` can't be written, or what
            :func:`eegdm.surprise` raises.
    """
    from eegdm.inference.surprise_page import write_surprise_page

    options = options or SurpriseOptions()
    places = SurprisePlaces.of(file, out)
    with artifacts.storage_faults(places.table.parent, "--out"):
        if not file.exists():
            raise UserError(f"{file} does not exist")
        if places.table.suffix not in (".tsv", ".parquet"):
            raise UserError(f"{places.table}: the table is written as .tsv or .parquet; name it so")
        artifacts.make_folder(places.table.parent, "--out")
        artifacts.refuse_long_names([places.table, places.page], "choose a shorter one with --out")
        plan = asdict(options) | {"model": model}
        if options.notch is not None and not isinstance(options.notch, str):
            plan["notch"] = list(options.notch)
        with unfinished_work(
            places.work, "surprise", plan, {"recording": [file.name, *signal_state(file)]}
        ):
            found, prepared = surprise_in(places.work, file, model, options, progress=True)
            write_surprise_page(places.page, file.name, found, prepared)
            _write_table(places.table, found.seconds)
        shutil.rmtree(places.work, ignore_errors=True)
    for note in found.notes:
        say(f"  noted    {note}")
    say(f"surprise: open {in_words(found.stretches.iloc[0])}")
    return [places.table, places.page]


def _write_table(path: Path, seconds: pd.DataFrame) -> None:
    if path.suffix == ".parquet":
        artifacts.write_table(path, seconds)
        return
    with artifacts.atomic_path(path) as temporary:
        seconds.round(_DECIMALS).to_csv(temporary, sep="\t", index=False, na_rep="n/a")
