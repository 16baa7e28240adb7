"""Where a model lies: a folder of ours, a published checkpoint, a repository on the Hugging Face
hub with either, or the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from eegdm.errors import UserError, one_line

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
PACKAGED = Path(__file__).parents[1] / "weights"
"""Models that come with the package, each in a folder by its name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


class ModelFiles(NamedTuple):
    """The two files that make a model of ours."""

    config: Path
    weights: Path


def find_model(
    path_or_hub_id: str | Path, filename: str | None = None, revision: str | None = None
) -> Path | ModelFiles:
    """Return the path of a published checkpoint, or the two files of a model; what exists on disk
    wins over the package and the hub.

    Raises:
        UserError: nothing there, several files and none named, a link out of its folder, or the hub
            can't be reached.
    """
    path = Path(path_or_hub_id).expanduser()
    if filename is not None and (
        PurePosixPath(filename).is_absolute() or ".." in PurePosixPath(filename).parts
    ):
        raise UserError(f"filename={filename}: leads out of the folder; name a file below it")
    if path.is_dir():
        return _find_in_folder(path, filename)
    if path.exists():
        return _only_file(path, filename)
    if is_packaged(path_or_hub_id):
        return _find_in_folder(PACKAGED / path, filename)
    if not _HUB_ID.fullmatch(str(path_or_hub_id)) or path.suffix == ".ckpt":
        raise UserError(
            f"{path_or_hub_id}: there is no such file or folder; a model on the hub is named"
            f" owner/name, and {listed(_packaged())} comes with the package"
        )
    return _find_on_hub(str(path_or_hub_id), filename, revision)


def is_packaged(model: object) -> bool:
    """Whether this names a model that comes with the package, and nothing on disk."""
    return str(model) in _packaged() and not Path(str(model)).exists()


def _packaged() -> list[str]:
    return [folder.name for folder in PACKAGED.iterdir()]


# ---------------------------------------------------------------------------------------- on disk


def _only_file(path: Path, filename: str | None) -> Path:
    if filename is not None:
        raise UserError(f"{path}: is a file; filename= names one in a folder or repository")
    if path.name in (CONFIG_FILE, WEIGHTS_FILE):
        raise UserError(f"{path}: is one of the files of a model; give the folder, {path.parent}")
    return path


def _find_in_folder(folder: Path, filename: str | None) -> Path | ModelFiles:
    if filename is not None:
        file = folder / filename
        _refuse_link_outside(folder, file)
        return file if not file.is_dir() else _find_in_folder(file, None)
    names = {found.name for found in folder.iterdir()}
    if names >= {CONFIG_FILE, WEIGHTS_FILE}:
        files = ModelFiles(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
        for file in files:
            _refuse_link_outside(folder, file)
        return files
    file = folder / _only_checkpoint(folder, names)
    _refuse_link_outside(folder, file)
    return file


def _refuse_link_outside(folder: Path, file: Path) -> None:
    """Refuse a missing file, and one that lies elsewhere; the hub's own cache links to `blobs`,
    beside `snapshots`.
    """
    if not file.exists():
        raise UserError(
            f"{folder}: has no {file.relative_to(folder)}; it holds"
            f" {listed(p.name for p in folder.iterdir()) or 'nothing'}"
        )
    home = folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(file.resolve().is_relative_to(place) for place in homes):
        raise UserError(
            f"{file}: is a link to a place outside its folder, which is refused; copy the file"
            " there"
        )


def _only_checkpoint(place: object, names: Iterable[str]) -> str:
    checkpoints = sorted(name for name in names if name.endswith(".ckpt"))
    if not checkpoints:
        raise UserError(
            f"{place}: holds no model: neither {CONFIG_FILE} with {WEIGHTS_FILE} nor a published"
            " checkpoint (*.ckpt)"
        )
    if len(checkpoints) > 1:
        raise UserError(
            f"{place}: holds several checkpoints, choose one with filename=: {listed(checkpoints)}"
        )
    return checkpoints[0]


# ------------------------------------------------------------------------------------- on the hub


def _find_on_hub(hub_id: str, filename: str | None, revision: str | None) -> Path | ModelFiles:
    if filename is None:
        names = _hub_names(hub_id, revision)
        if names >= {CONFIG_FILE, WEIGHTS_FILE}:
            return ModelFiles(
                _download(hub_id, CONFIG_FILE, revision), _download(hub_id, WEIGHTS_FILE, revision)
            )
        filename = _only_checkpoint(hub_id, names)
    return _download(hub_id, filename, revision)


def _hub_names(hub_id: str, revision: str | None) -> set[str]:
    """List a repository's files; without a connection, those of it that are in the cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return {
            file.rfilename for file in HfApi().model_info(hub_id, revision=revision).siblings or []
        }
    except HfHubHTTPError as error:
        raise _refusal(hub_id, error) from error
    # The exceptions of a missing connection belong to the HTTP library of the hub's version
    except Exception as offline:
        try:
            cached = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
        except Exception:
            raise _refusal(hub_id, offline) from offline
        return {path.relative_to(cached).as_posix() for path in cached.rglob("*")}


def _download(hub_id: str, filename: str, revision: str | None) -> Path:
    """Return the path of a repository's file in the cache, fetched if need be."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, filename, revision=revision, library_name="eegdm"))
    except Exception as error:  # see _hub_names
        raise _refusal(f"{hub_id}, file {filename}", error) from error


def _refusal(what: str, error: Exception) -> UserError:
    return UserError(
        f"{what}: is neither on this disk nor to be had from the hub ({type(error).__name__}:"
        f" {one_line(error, 300)})"
    )


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names in order, the first dozen spelt out."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
