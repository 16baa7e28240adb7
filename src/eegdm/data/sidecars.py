"""What BIDS says of a recording in the files beside it: `*_channels.tsv` and `*_eeg.json`.

A sidecar may lie beside its recording or in a folder above (BIDS's inheritance principle): it is of
every recording whose name holds all entities of its own, and the nearest one decides.
https://bids-specification.readthedocs.io/en/stable/common-principles.html
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdm import artifacts
from eegdm.data.events import read_cells, shown
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

_RECORDING = re.compile(r"sub-.+_eeg\.[A-Za-z]+(\.gz)?")


class Sidecars(NamedTuple):
    """What stands beside a recording; empty where nothing does.

    Attributes:
        files: the sidecars that were read.
        types: BIDS type by channel name, in upper case ("EEG", "EOG", ...).
        units: unit by channel name, as it is spelt there.
        bads: channels whose status is bad.
        reference: what the electrodes were recorded against.
        mains_hz: frequency of the power line.
    """

    files: tuple[Path, ...] = ()
    types: dict[str, str] = {}
    units: dict[str, str] = {}
    bads: tuple[str, ...] = ()
    reference: str | None = None
    mains_hz: float | None = None

    @property
    def notes(self) -> list[str]:
        """What a reader of results must know."""
        others = [f"{name} ({kind})" for name, kind in self.types.items() if kind != "EEG"]
        notes = []
        if others:
            notes.append(
                f"left out, of another type than EEG by {self.files[0].name}: {', '.join(others)}"
            )
        if self.bads:
            notes.append(f"bad by {self.files[0].name}: {', '.join(self.bads)}")
        if self.reference:
            notes.append(f"recorded against {shown(self.reference)} (EEGReference)")
        if self.mains_hz:
            notes.append(f"mains of {self.mains_hz:g} Hz (PowerLineFrequency)")
        return notes


def sidecars_of(recording: Path) -> Sidecars:
    """Read the sidecars of a recording that is named as BIDS does; of others there are none.

    Raises:
        UserError: a sidecar can't be read, or has no column of names.
    """
    tables, descriptions = _sidecar_files(recording)
    about: dict[str, Any] = {}
    # By the inheritance principle, keys of the nearest file replace those of files above.
    for file in reversed(descriptions):
        content = artifacts.read_json(file)
        if not isinstance(content, dict):
            raise UserError(f"{file}: is not a JSON object, as BIDS wants it")
        about |= content
    reference, mains = about.get("EEGReference"), about.get("PowerLineFrequency")
    # BIDS allows "n/a" for a frequency, and in Python True is a number.
    is_hertz = isinstance(mains, int | float) and not isinstance(mains, bool) and 1 <= mains <= 500
    return Sidecars(
        files=(*tables, *descriptions),
        **(_read_channels(tables[0]) if tables else {}),
        reference=reference if isinstance(reference, str) and reference != "n/a" else None,
        mains_hz=float(mains) if mains is not None and is_hertz else None,
    )


def sidecar_files(recording: Path) -> list[Path]:
    """The sidecars that describe a recording, not read."""
    return [file for files in _sidecar_files(recording) for file in files]


def _sidecar_files(recording: Path) -> tuple[list[Path], list[Path]]:
    """The channels.tsv of a recording, if there is one, and its eeg.json, the nearest first."""
    if not _RECORDING.fullmatch(recording.name):
        return [], []
    return [*_sidecars_of_kind(recording, "channels", ".tsv")][:1], [
        *_sidecars_of_kind(recording, "eeg", ".json")
    ]


def _read_channels(file: Path) -> dict[str, Any]:
    cells = read_cells(file)
    if "name" not in cells:
        raise UserError(
            f"{file}: has no column 'name'; its columns are {', '.join(map(shown, cells.columns))}"
        )

    def column(name: str) -> dict[str, str]:
        values = cells.get(name, [])
        return {
            channel: value
            for channel, value in zip(cells["name"], values, strict=False)
            if value not in ("", "n/a")
        }

    return {
        "types": {name: kind.upper() for name, kind in column("type").items()},
        "units": column("units"),
        "bads": tuple(name for name, is_so in column("status").items() if is_so.lower() == "bad"),
    }


def _sidecars_of_kind(recording: Path, suffix: str, extension: str) -> Iterator[Path]:
    """The sidecars of one kind that are of a recording, the nearest first."""
    entities = _entities(recording.name)
    folder = recording.parent
    while True:
        fitting = [
            file
            for file in folder.glob(f"*{suffix}{extension}")
            if file.is_file()
            and re.fullmatch(rf"(.*_)?{suffix}", file.name.removesuffix(extension))
            and _entities(file.name) <= entities
        ]
        # In one folder, the one that names more entities is of fewer recordings, so it is nearer.
        yield from sorted(fitting, key=lambda file: (-len(_entities(file.name)), file.name))
        # The root of a data set may have any name, but a recording lies only in folders of these
        # names: the first other one is the root, and nothing above it is of BIDS.
        if not re.match(r"eeg$|ses-|sub-", folder.name):
            return
        folder = folder.parent


def _entities(name: str) -> set[str]:
    """What tells a BIDS file from others; the number of a part tells nothing."""
    parts = name.split(".")[0].split("_")[:-1]
    return {part for part in parts if not part.startswith("split-")}


# --------------------------------------------------------------------------------------- applied


_KEPT = "eegdm sidecars"  # in the part of an Info that MNE leaves to its users


def apply(raw: mne.io.BaseRaw, recording: Path) -> None:
    """Describe an opened recording as its sidecars do, in place: leave out the channels that are of
    another type than EEG, and mark those whose status is bad. `notes_of` says what was done.

    Raises:
        UserError: a sidecar can't be read, or no channel is of type EEG.
    """
    beside = sidecars_of(recording)
    others = [name for name in raw.ch_names if beside.types.get(name, "EEG") != "EEG"]
    if len(others) == len(raw.ch_names):
        raise UserError(
            f"{beside.files[0]}: says of no channel in the recording that it is of type EEG"
        )
    if others:
        raw.drop_channels(others)
    bads = [name for name in raw.ch_names if name in beside.bads]
    if bads:
        raw.info["bads"] = [*dict.fromkeys([*raw.info["bads"], *bads])]
    kept = (raw.info["temp"] or {}) if "temp" in raw.info else {}
    raw.info["temp"] = {**kept, _KEPT: beside.notes}


def notes_of(raw: mne.io.BaseRaw) -> list[str]:
    """What the sidecars of a recording say, if :func:`apply` described it."""
    kept = (raw.info["temp"] or {}) if "temp" in raw.info else {}
    return list(kept.get(_KEPT, []))


def mains_of(recordings: Iterable[Path]) -> Counter[float]:
    """How many recordings' sidecars name each frequency of the power line."""
    return Counter(hz for hz in map(_mains_hz, recordings) if hz is not None)


def _mains_hz(recording: Path) -> float | None:
    try:
        return sidecars_of(recording).mains_hz
    except UserError:  # the recording fails for it when it is opened
        return None
