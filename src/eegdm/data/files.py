"""Which files below a folder are recordings, and which belong to another file.

MNE reads a split FIF from its first part and takes the others along; a copy that `eegdm predict`
wrote holds the seconds of its original. Neither is a recording of its own: no second is listed
twice.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eegdm.artifacts import fingerprint

EXTENSIONS = (".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".cnt")
"""Files that MNE reads a recording from. What belongs to one of them has another suffix (`.eeg` and
`.vmrk` of a `.vhdr`, `.fdt` of a `.set`), except the parts of a split FIF."""
_FIF = (".fif", ".fif.gz")
# How MNE and Neuromag name the parts after the first: x-1.fif after x.fif, x_split-02_meg.fif after
# x_split-01_meg.fif
_NUMBERED = re.compile(r"(?P<before>.+)-(?P<number>[1-9]\d{0,2})", re.DOTALL)
_SPLIT_ENTITY = re.compile(
    r"(?P<before>(?:.*_)?split-)(?P<number>\d{1,3})(?P<after>(?:_.*)?)", re.DOTALL | re.IGNORECASE
)


class Found(NamedTuple):
    """Files of a folder, sorted.

    Attributes:
        recordings: each is to be opened.
        parts: later parts of a split FIF, which are read with their first.
        copies: annotated copies that `eegdm predict` wrote.
    """

    recordings: list[Path]
    parts: list[Path]
    copies: list[Path]

    @property
    def left_out(self) -> str:
        """A sentence on the files that are not recordings of their own; "" if there is none."""
        groups = [
            f"{what}: {len(files)}, the first {files[0].name}"
            for files, what in (
                (self.parts, "later parts of split recordings, which are read with their first"),
                (self.copies, "copies that eegdm wrote"),
            )
            if files
        ]
        return f"not recordings of their own: {'; '.join(groups)}" if groups else ""


def sort_out(files: Iterable[Path]) -> Found:
    """Tell files that are recordings of their own from those that belong to another of them."""
    files = sorted(files)
    copies = {file for file in files if is_copy(file)}
    parts = later_parts(file for file in files if file.name.lower().endswith(_FIF)) - copies
    return Found(
        [file for file in files if file not in copies | parts], sorted(parts), sorted(copies)
    )


def visible(root: Path, files: Iterable[Path]) -> Iterator[Path]:
    """Leave out hidden files and folders, such as the ``._x.edf`` that macOS leaves beside
    copies.
    """
    return (
        file
        for file in files
        if not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def extension(file: str) -> str:
    """The suffix as it stands in the file's name: the longest of EXTENSIONS, whatever its case."""
    fitting = [suffix for suffix in EXTENSIONS if file.lower().endswith(suffix)]
    return file[-len(max(fitting, key=len)) :] if fitting else ""


def recording_ids(files: Sequence[str]) -> list[str]:
    """Drop the suffixes of relative paths, except where two would become the same.

    >>> recording_ids(["a/x.edf", "a/x.bdf", "b/x.edf"])
    ['a/x.edf', 'a/x.bdf', 'b/x']
    """
    stems = [file.removesuffix(extension(file)) for file in files]
    # Whole names count too: of a.edf and a.edf.edf, the second's stem is the first's name.
    count = Counter([*stems, *files])
    return [stem if count[stem] == 1 else file for stem, file in zip(stems, files, strict=True)]


def file_name(recording: str) -> str:
    """Return a file's name for a recording: its id, with anything that is not a plain name replaced
    and a fingerprint added.
    """
    flat = recording.replace("/", "__")
    plain = re.sub(r"[^A-Za-z0-9._+=-]+", "_", flat).lstrip(".")
    is_plain = plain == flat and len(plain) < 150
    return plain if is_plain else f"{plain[:120]}-{fingerprint(recording)}"


def is_copy(file: Path) -> bool:
    """Whether `eegdm predict --copy` wrote the file: the sidecar of its original lies beside it."""
    original, separator, _ = file.name.rpartition("_annotated")
    return bool(separator) and file.with_name(f"{original}_events.json").is_file()


# -------------------------------------------------------------- the files that hold one recording

# The keys by which a BrainVision header names its files; $b stands for the header's own stem.
_NAMED_BY_HEADER = re.compile(r"^(?:DataFile|MarkerFile)=(.+?)\s*$", re.MULTILINE)


def signal_files(recording: Path) -> list[Path]:
    """Return the files that a recording is read from, itself first: with a `.vhdr` the files that
    it names, with a `.set` its `.fdt`, with the first part of a split FIF the others.
    """
    name = recording.name.lower()
    others: list[Path] = []
    if name.endswith(".vhdr"):
        header = recording.read_text("latin-1")  # never fails; the names that count are ASCII
        others = [
            recording.with_name(found.replace("$b", recording.stem))
            for found in _NAMED_BY_HEADER.findall(header)
        ]
    elif name.endswith(".set"):
        others = [recording.with_suffix(".fdt")]
    elif name.endswith(_FIF):
        others = sorted(_read_with(recording) or ())
    return [recording, *(file for file in others if file.is_file())]


def signal_state(recording: Path) -> tuple[int, Any]:
    """Return the size of a recording's files together, and the time of each: what changes when
    one of them is replaced. A single file has a single time.
    """
    states = [file.stat() for file in signal_files(recording)]
    times = [state.st_mtime_ns for state in states]
    return sum(state.st_size for state in states), times[0] if len(times) == 1 else times


# ------------------------------------------------------------------------------- parts of a FIF


def later_parts(files: Iterable[Path]) -> set[Path]:
    """Return those FIF files that another one takes along when it is read.

    What MNE reads with a file decides, whatever the parts are called; where it can't be opened,
    the names that MNE gives the parts do.
    """
    beside: dict[Path, set[Path]] = defaultdict(set)
    for file in files:
        beside[file.parent].add(file)
    parts: set[Path] = set()
    for siblings in beside.values():
        # To open a file takes long beside listing it.
        if len(siblings) == 1:
            continue
        read_with = {file: _read_with(file) for file in siblings}
        for taken in read_with.values():
            parts |= (taken or set()) & siblings
        parts |= {
            file
            for file in siblings
            if (first := _first_by_name(file, siblings)) and read_with[first] is None
        }
    return parts


def _read_with(file: Path) -> set[Path] | None:
    """The further files that MNE reads with one; None if it can't be opened."""
    import mne

    try:
        # Data of MEG with active shielding and missing parts are no fault here: only the names of
        # the parts are wanted.
        with mne.utils.use_log_level("ERROR"):
            raw = mne.io.read_raw_fif(
                file, preload=False, allow_maxshield=True, on_split_missing="ignore"
            )
    # MNE's readers have no exception in common; opening the file later says what is wrong.
    except Exception:
        return None
    return {file.with_name(Path(name).name) for name in raw.filenames[1:] if name is not None}


def _first_by_name(file: Path, siblings: set[Path]) -> Path | None:
    """The first part of the split recording that a file's name makes it a part of, if it is
    there.
    """
    suffix = extension(file.name)
    stem = file.name.removesuffix(suffix)
    if match := _SPLIT_ENTITY.fullmatch(stem):
        number, width = int(match["number"]), len(match["number"])
        names = [f"{match['before']}{1:0{width}}{match['after']}"] if number > 1 else []
    elif match := _NUMBERED.fullmatch(stem):
        names = [match["before"]]
    else:
        return None
    candidates = (file.with_name(name + suffix) for name in names)
    return next((first for first in candidates if first in siblings), None)
