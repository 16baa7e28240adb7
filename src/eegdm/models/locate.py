"""Where a model lies: a folder of ours, a published checkpoint, a repository on the Hugging Face
hub with either, or the package.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from eegdm.errors import UserError, one_line

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
PACKAGED = Path(__file__).parents[1] / "weights"
"""Models that come with the package, each in a folder by its name."""
_TRY_AGAIN = (408, 425, 429)
"""Answers of a server that blame the client, but mean: not now."""
_HUB_ID = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)"
    r"(?:@(?P<revision>[\w./-]+))?(?::(?P<filename>[^:]+))?",
    re.ASCII,
)


class ModelFiles(NamedTuple):
    """The two files that make a model of ours."""

    config: Path
    weights: Path


def find_model(
    path_or_hub_id: str | Path, filename: str | None = None, revision: str | None = None
) -> Path | ModelFiles:
    """Return the path of a published checkpoint, or the two files of a model; what exists on disk
    wins over the package and the hub.

    Args:
        path_or_hub_id: a folder, a file, a model of the package, or `owner/name` on the hub, which
            may name revision and file too: `owner/name@revision:file`.
        filename: which file of the folder or repository, where it holds several.
        revision: branch, tag or commit on the hub.

    Raises:
        UserError: nothing there, several files and none named, a file or revision named twice, a
            revision of what lies on the disk, a link out of its folder, or the hub can't be reached
            and the cache lacks a file.
    """
    path = Path(path_or_hub_id).expanduser()
    on_hub = None if path.exists() else _HUB_ID.fullmatch(str(path_or_hub_id))
    if on_hub:
        path = Path(on_hub["repository"])
        if path.exists():
            raise UserError(
                f"{path_or_hub_id}: {path} lies on this disk, where there are no revisions; name it"
                " or a file in it by its path"
            )
        filename = _named_once(on_hub, "filename", filename)
        revision = _named_once(on_hub, "revision", revision)
    if filename is not None:
        _refuse_filename(path, PurePosixPath(filename))
    packaged = is_packaged(path_or_hub_id)
    if revision is not None and (packaged or path.exists()):
        raise UserError(
            f"{path}: lies on this disk, where there are no revisions; leave revision={revision}"
            " out"
        )
    if packaged or path.is_dir():
        return _find_in_folder(PACKAGED / path if packaged else path, filename)
    if path.exists():
        return _only_file(path, filename)
    if not on_hub or path.suffix == ".ckpt":
        raise UserError(
            f"{path_or_hub_id}: there is no such file or folder; a model on the hub is named"
            f" owner/name or owner/name@revision:file, and {joined(_packaged())} comes with the"
            " package"
        )
    return _find_on_hub(on_hub["repository"], filename, revision)


def _named_once(on_hub: re.Match[str], name: str, given: str | None) -> str | None:
    """Return what an id or an argument names; not both may."""
    if given is not None and on_hub[name] is not None:
        raise UserError(
            f"{on_hub[0]}: names {on_hub[name]!r} itself; leave out {name}={given}, or name"
            f" {on_hub['repository']} alone"
        )
    return on_hub[name] or given


def _refuse_filename(place: Path, filename: PurePosixPath) -> None:
    if filename.is_absolute() or ".." in filename.parts:
        raise UserError(f"filename={filename}: leads out of the folder; name a file below it")
    if filename.name in (CONFIG_FILE, WEIGHTS_FILE):
        raise UserError(
            f"{place}: {filename} is one of the files of a model; name {place / filename.parent}"
            " without it"
        )


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
        refuse_link_outside(folder, file)
        return file if not file.is_dir() else _find_in_folder(file, None)
    names = {path.name for path in folder.iterdir()}
    if names >= {CONFIG_FILE, WEIGHTS_FILE}:
        files = ModelFiles(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
        for file in files:
            refuse_link_outside(folder, file)
        return files
    file = folder / _only_checkpoint(folder, names)
    refuse_link_outside(folder, file)
    return file


def refuse_link_outside(folder: Path, file: Path) -> None:
    """Refuse a missing file, and one that lies elsewhere; the hub's own cache links to `blobs`,
    beside `snapshots`.
    """
    if not file.exists():
        raise UserError(
            f"{folder}: has no {file.relative_to(folder)}; it holds"
            f" {joined(p.name for p in folder.iterdir()) or 'nothing'}"
        )
    # A link in a stranger's folder could make any file of this machine part of what is saved again
    home = folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(file.resolve().is_relative_to(place) for place in homes):
        raise UserError(
            f"{file}: is a link to a place outside its folder, which is refused; copy the file"
            " there"
        )


def _only_checkpoint(place: Path | str, names: Iterable[str]) -> str:
    checkpoints = sorted(name for name in names if name.endswith(".ckpt"))
    if not checkpoints:
        raise UserError(
            f"{place}: holds no model: neither {CONFIG_FILE} with {WEIGHTS_FILE} nor a published"
            " checkpoint (*.ckpt)"
        )
    if len(checkpoints) > 1:
        # Of a folder by its path, of a repository by its id: each is a name that can be typed
        between = "/" if isinstance(place, Path) else ":"
        raise UserError(
            f"{place}: holds several checkpoints, choose one:"
            f" {joined(f'{place}{between}{name}' for name in checkpoints)}"
        )
    return checkpoints[0]


# ------------------------------------------------------------------------------------- on the hub


def _find_on_hub(hub_id: str, filename: str | None, revision: str | None) -> Path | ModelFiles:
    """Ask the hub; where it can't be asked now, take what the cache holds."""
    place = _typed(hub_id, revision)
    try:
        names = _hub_names(hub_id, revision)
    # The exceptions of a missing connection belong to the HTTP library of the hub's version
    except Exception as error:
        if is_final(error):
            raise _refusal(place, error) from error
        return _find_in_cache(hub_id, filename, revision, error)
    if filename is None and names >= {CONFIG_FILE, WEIGHTS_FILE}:
        return ModelFiles(
            _download(hub_id, CONFIG_FILE, revision), _download(hub_id, WEIGHTS_FILE, revision)
        )
    if filename is not None and filename not in names:
        raise UserError(f"{place}: has no {filename}; it holds {joined(names) or 'nothing'}")
    return _download(hub_id, filename or _only_checkpoint(place, names), revision)


def _typed(hub_id: str, revision: str | None) -> str:
    """Return how a revision of a repository is typed."""
    return hub_id if revision is None else f"{hub_id}@{revision}"


def _hub_names(hub_id: str, revision: str | None) -> set[str]:
    """List a repository's files, as the hub does."""
    from huggingface_hub import HfApi

    listing = HfApi().model_info(hub_id, revision=revision)
    return {file.rfilename for file in listing.siblings or []}


def is_final(error: Exception) -> bool:
    """Return whether the hub answered (no such repository, no access), rather than failed to: a
    missing connection, an overloaded or broken server.
    """
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return 400 <= status < 500 and status not in _TRY_AGAIN


def _find_in_cache(
    hub_id: str, filename: str | None, revision: str | None, error: Exception
) -> Path | ModelFiles:
    """Return files that were fetched before, all of one revision; refuse an incomplete model."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    folder, place = _snapshot(hub_id, revision), _typed(hub_id, revision)
    paths = [] if folder is None else [path for path in folder.rglob("*") if path.is_file()]
    if folder is None or not paths:
        raise _refusal(place, error) from error
    names = {path.relative_to(folder).as_posix() for path in paths}
    wanted = {CONFIG_FILE, WEIGHTS_FILE}
    if filename is not None:
        wanted = {filename}
    elif not wanted & names and any(name.endswith(".ckpt") for name in names):
        wanted = {_only_checkpoint(place, names)}
    why = f"the hub can't be asked ({error_text(error)})"
    if missing := wanted - names:
        raise UserError(
            f"{place}: the cache lacks {joined(missing)}; it holds {joined(names)}, and {why};"
            " run this again when the hub can be reached, which fetches what is missing"
        ) from error
    if not isinstance(error, OfflineModeIsEnabled):
        message = f"{place}: {why}; {joined(wanted)} as fetched before is used, from {folder}"
        warnings.warn(message, stacklevel=4)
    files = [folder / name for name in sorted(wanted)]
    return files[0] if len(files) == 1 else ModelFiles(*files)


def _snapshot(hub_id: str, revision: str | None) -> Path | None:
    """Return the folder in the cache that holds what was fetched of a revision."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except Exception as error:  # newer versions refuse an incomplete one, and say where it is
        incomplete = getattr(error, "snapshot_path", None)
        return None if incomplete is None else Path(incomplete)


def _download(hub_id: str, filename: str, revision: str | None) -> Path:
    """Return the path of a repository's file in the cache, fetched if need be."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, filename, revision=revision, library_name="eegdm"))
    except Exception as error:  # see _find_on_hub
        raise _refusal(f"{_typed(hub_id, revision)}:{filename}", error) from error


def _refusal(what: str, error: Exception) -> UserError:
    advice = "" if is_final(error) else "; run this again when the hub can be reached"
    return UserError(
        f"{what}: is neither on this disk nor available from the hub ({error_text(error)}){advice}"
    )


def error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, 300)}"


def joined(names: Iterable[str], maximum: int = 12) -> str:
    """Return names in order, the first dozen spelt out."""
    names = sorted(names)
    more = len(names) - maximum
    return ", ".join(names[:maximum]) + (f" and {more} more" if more > 0 else "")
