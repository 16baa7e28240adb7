"""`eegdm embed`: embeddings of a recording as .npz, .parquet or a folder that can be memory-mapped,
written a chunk at a time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from eegdm.artifacts import (
    atomic_folder,
    atomic_path,
    begin_array,
    make_folder,
    refuse_long_names,
    storage_faults,
    write_json,
    write_table,
)
from eegdm.errors import UserError
from eegdm.inference.embedding import About, EmbedOptions, embed_in

VALUES = "embeddings"
_FORMATS = ".npz, .parquet, or a folder (a name without suffix)"


def embed_file(
    file: Path, model: str, out: Path | None = None, options: EmbedOptions | None = None
) -> Path:
    """Write the embeddings of a recording; return where.

    - ``X.npz``: embeddings and the fields of :class:`eegdm.inference.embedding.About` by name.
    - ``X.parquet``: a row per window and channel: onset_s, duration_s, channel, taken_for,
      distance_mm, embedding (a list); features, steps and notes are in the file's metadata, which
      pandas reads into ``attrs``.
    - a folder: ``embeddings.npy``, ``windows.parquet``, ``about.json``.

    Raises:
        UserError: no such file, the suffix of ``out`` is unknown, tokens are wanted as Parquet,
            ``out`` can't be written or is there already, or what :func:`eegdm.embed` raises.
    """
    options = options or EmbedOptions()
    out = out or file.with_name(f"{file.stem}_{VALUES}.npz")
    with storage_faults(out.parent, "--out"):
        _refuse(file, out, options)
        make_folder(out.parent, "--out")
        refuse_long_names([out], "choose a shorter one with --out")
        # On the disk of the result, for the system's temporary folder may be in memory.
        with tempfile.TemporaryDirectory(prefix=".eegdm-embed.", dir=out.parent) as work:
            about, chunks = embed_in(Path(work), file, model, options, progress=True)
            if out.suffix == ".parquet":
                _write_parquet(out, about, chunks)
            elif out.suffix == ".npz":
                _write_npz(out, about, chunks, Path(work))
            else:
                _write_folder(out, about, chunks)
    return out


def _refuse(file: Path, out: Path, options: EmbedOptions) -> None:
    if not file.exists():
        raise UserError(f"{file} does not exist")
    if out.suffix not in (".npz", ".parquet", ""):
        raise UserError(f"{out}: embeddings are written as {_FORMATS}")
    if out.suffix == ".parquet" and options.tokens:
        raise UserError(
            f"{out}: tokens have six axes, a table has two; write them as .npz or into a folder"
        )
    if out.suffix == "" and out.exists():
        raise UserError(f"{out}: is there already; name a new folder")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file with --out")


def _write_npz(out: Path, about: About, chunks: Iterator[ndarray], work: Path) -> None:
    _write_values(work / "values.npy", about, chunks)
    values = np.load(work / "values.npy", mmap_mode="r", allow_pickle=False)
    with atomic_path(out) as temporary:
        np.savez(temporary, **{VALUES: values}, **_npz_fields(about))


def _npz_fields(about: About) -> dict[str, Any]:
    """What an .npz holds beside the values; without the notes' type NumPy would take no notes for
    no numbers.
    """
    fields = about._asdict() | {"notes": np.array(about.notes, str)}
    return {name: value for name, value in fields.items() if name != "shape"}


def _write_values(path: Path, about: About, chunks: Iterator[ndarray]) -> None:
    with open(path, "wb") as file:
        begin_array(file, about.shape)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, "<f4").tobytes())


def _write_folder(out: Path, about: About, chunks: Iterator[ndarray]) -> None:
    with atomic_folder(out) as folder:
        _write_values(folder / f"{VALUES}.npy", about, chunks)
        write_table(
            folder / "windows.parquet",
            pd.DataFrame({"onset_s": about.onset_s, "duration_s": about.duration_s}),
        )
        write_json(
            folder / "about.json",
            about._asdict() | {"onset_s": "see windows.parquet", "shape": list(about.shape)},
        )


def _facts(about: About) -> dict[str, list[str]]:
    """What holds for all rows of a table."""
    return {"features": about.features, "steps": about.steps, "notes": about.notes}


def _write_parquet(out: Path, about: About, chunks: Iterator[ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_features = len(about.features)
    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        [
            ("onset_s", number),
            ("duration_s", number),
            ("channel", text),
            ("taken_for", text),
            ("distance_mm", number),
            ("embedding", pa.list_(pa.float32(), n_features)),
        ],
        metadata={"PANDAS_ATTRS": json.dumps(_facts(about))},
    )
    n_channels, first = len(about.ch_names), 0
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for chunk in chunks:
            onset = np.repeat(about.onset_s[first : first + len(chunk)], n_channels)
            first += len(chunk)
            values = pa.FixedSizeListArray.from_arrays(
                pa.array(chunk.reshape(-1), pa.float32()), n_features
            )
            columns = [
                onset,
                np.full(len(onset), about.duration_s),
                about.ch_names * len(chunk),
                about.taken_for * len(chunk),
                about.distance_mm * len(chunk),
                values,
            ]
            writer.write_table(
                pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema)
            )
