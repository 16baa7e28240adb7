"""A checkpoint of the original, open for reading: settings as plain values, tensors read when asked
for.

torch writes a zip archive of uncompressed entries: `<name>/data.pkl` says what there is,
`<name>/data/<key>` holds raw numbers.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eegdm.checkpoints.restricted_pickle import (
    STORAGE_ITEM_BYTES,
    Instance,
    PickleFault,
    Reference,
    Storage,
    TensorHeader,
    read_pickle,
)
from eegdm.errors import UserError

_DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.BoolStorage": torch.bool,
}
MAX_SETTINGS = 10_000
MAX_DEPTH = 16
_ENCRYPTED = 1
# What zipfile raises for damaged archives; NotImplementedError where one names a compression or
# version that does not exist.
_ZIP_FAULTS = (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError)


@dataclass
class Checkpoint:
    """What a Lightning checkpoint holds; `progress` is epoch, global step and Lightning's
    version.
    """

    path: Path
    hyper_parameters: dict[str, Any]
    state_dict: dict[str, TensorHeader]
    progress: dict[str, Any]
    archive: zipfile.ZipFile
    folder: str

    def read_all(self) -> dict[str, Tensor]:
        """Return the tensors of the state dict, contiguous, on the CPU; keys that name one place in
        the file share one tensor.
        """
        headers = set(self.state_dict.values())
        if (
            sum(prod(h.shape) * STORAGE_ITEM_BYTES[h.storage.kind] for h in headers)
            > self.path.stat().st_size
        ):
            raise UserError(
                f"{self.path}: is refused: its tensors overlap, so that they would take more memory"
                " than the file has bytes"
            )
        places = {}
        for storage in {header.storage for header in headers}:
            numbers = self._read(storage)
            for header in (h for h in headers if h.storage == storage):
                part = numbers.as_strided(header.shape, header.stride, header.offset)
                places[header] = part.clone(memory_format=torch.contiguous_format)
        return {name: places[header] for name, header in self.state_dict.items()}

    def _read(self, storage: Storage) -> Tensor:
        raw = _entry(self.path, self.archive, f"{self.folder}/data/{storage.key}")
        return torch.frombuffer(bytearray(raw), dtype=_DTYPES[storage.kind])


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open a checkpoint without running anything that it names.

    Raises:
        UserError: no such file, not a torch archive, truncated, damaged, or its pickle asks for
            more than a checkpoint needs.
    """
    with _open_archive(path) as archive:
        folder = _check_entries(path, archive)
        prefix = f"{folder}/data/"
        storages = {
            e.filename.removeprefix(prefix): e.file_size
            for e in archive.infolist()
            if e.filename.startswith(prefix)
        }
        pickled = _entry(path, archive, f"{folder}/data.pkl")
        try:
            parts = _checkpoint_parts(read_pickle(pickled, storages))
        except PickleFault as fault:
            raise UserError(f"{path}: is refused: {fault}") from fault
        yield Checkpoint(path, *parts, archive=archive, folder=folder)


def _open_archive(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with open(path, "rb") as stream:
            start = stream.read(4)
        return zipfile.ZipFile(path)
    except _ZIP_FAULTS as error:
        if start == b"PK\x03\x04":
            raise UserError(f"{path}: is truncated or damaged; download it again") from error
        raise UserError(
            f"{path}: is not a torch checkpoint: a zip archive is expected (torch 1.6 or later), "
            f"the file starts with {start!r}"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def _entry(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (*_ZIP_FAULTS, OSError) as error:
        raise UserError(
            f"{path}: is truncated or damaged at its entry {name!r}; download it again"
        ) from error


def _check_entries(path: Path, archive: zipfile.ZipFile) -> str:
    """Check that entries are stored as they are and within the file; return the archive's inner
    folder.
    """
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise UserError(
                f"{path}: is refused: its entry {entry.filename!r} is compressed or encrypted,"
                " which torch never writes"
            )
    if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
        raise UserError(f"{path}: is refused: its entries claim more bytes than the file has")
    folders = [
        e.filename.removesuffix("/data.pkl")
        for e in archive.infolist()
        if e.filename.endswith("/data.pkl")
    ]
    if len(folders) != 1 or "/" in folders[0]:
        raise UserError(
            f"{path}: is not a torch checkpoint: the zip archive holds {len(folders)} entries"
            " */data.pkl, expected 1"
        )
    order = f"{folders[0]}/byteorder"
    if order in archive.namelist() and _entry(path, archive, order) != b"little":
        raise UserError(
            f"{path}: was written on a big-endian machine; save it again on a little-endian one"
        )
    return folders[0]


def _checkpoint_parts(
    content: Any,
) -> tuple[dict[str, Any], dict[str, TensorHeader], dict[str, Any]]:
    for name in ("state_dict", "hyper_parameters"):
        if not isinstance(content, dict) or not isinstance(content.get(name), dict | Instance):
            raise PickleFault(f"it is not a Lightning checkpoint of the original: it has no {name}")
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(state[key], TensorHeader) for key in state
    ):
        raise PickleFault("its state dict holds something else than named tensors")
    settings = plain_settings(content["hyper_parameters"])
    if not isinstance(settings, dict):
        raise PickleFault("its hyper_parameters are not a table of names and values")
    return (
        settings,
        state,
        {
            key: plain_settings(content.get(key))
            for key in ("epoch", "global_step", "pytorch-lightning_version")
        },
    )


def plain_settings(value: Any) -> Any:
    """Return nested settings as dict, list and scalars: omegaconf's nodes are unwrapped, references
    become their names.
    """
    visited = itertools.count()

    def unwrap(item: Any, depth: int) -> Any:
        if depth > MAX_DEPTH or next(visited) > MAX_SETTINGS:
            raise PickleFault("its settings are nested without end")
        if isinstance(item, Instance):
            state = item.state if isinstance(item.state, dict) else {}
            return unwrap(state.get("_content", state.get("_val")), depth + 1)
        if isinstance(item, Reference):
            return item.name
        if isinstance(item, dict):
            return {str(key): unwrap(entry, depth + 1) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [unwrap(entry, depth + 1) for entry in item]
        return item

    return unwrap(value, 0)
