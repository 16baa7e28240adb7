"""`eegdm info FOLDER --privacy`: what in a folder could identify people, before it is shared.

What a file holds follows from its name, for every file that eegdm writes; a file that has none of
these names is listed as unknown. Whether ids and file names are real names or pseudonyms is for the
reader to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from eegdm import artifacts
from eegdm.errors import UserError
from eegdm.models.locate import CONFIG_FILE, joined
from eegdm.models.pretrained import PEOPLE


class Holding(NamedTuple):
    """What files of one name hold."""

    pattern: str
    """Of the end of its path: `signals/*.npy`; of a folder, whatever is below it: `logs/**`."""
    says: str
    """What could identify people in them; empty if nothing could."""

    def fits(self, path: PurePosixPath) -> bool:
        """Return whether a file has such a name."""
        if self.pattern.endswith("/**"):
            folder = self.pattern.removesuffix("/**")
            return any(fnmatchcase(part, folder) for part in path.parts[:-1])
        return path.match(self.pattern)


_FEATURES = "numbers computed from the EEG, by which people can be recognised"
_NAMED_BY_RECORDING = "the files are named after recordings"
_TRACES = "traces of the EEG"
HOLDINGS = (
    # what a killed run leaves
    Holding(".*.eegdm/**", "the EEG of unfinished work"),
    Holding("work/**", f"the EEG of unfinished work; {_NAMED_BY_RECORDING}"),
    # eegdm preprocess
    Holding("signals/*.npy", f"the EEG itself; {_NAMED_BY_RECORDING}"),
    Holding(
        "recordings.parquet",
        "file names, subject ids, sessions and lengths of recordings, their sizes or SHA-256 (by"
        " which whoever has a file can find it here), and why some could not be used",
    ),
    Holding(
        "events.parquet",
        "when what happened in which recording; labels stand as in the source, where people may"
        " have typed anything",
    ),
    Holding("parts/*", f"the rows of the tables, one recording each; {_NAMED_BY_RECORDING}"),
    # eegdm embed on a folder, and features that other commands add
    Holding("features/*/about.json", ""),
    Holding("features/*/*.npy", f"{_FEATURES}; {_NAMED_BY_RECORDING}"),
    Holding(
        "windows.parquet", "names of recordings and the times of windows, with labels if known"
    ),
    Holding("index.parquet", "names of recordings and the times of windows"),
    Holding("labels.*", "a copy of the table of labels, with all of its columns"),
    Holding(
        "origin.json",
        "the folders of recordings and model on the machine that wrote it, which may hold names",
    ),
    # eegdm embed on a recording
    Holding("embeddings.npy", _FEATURES),
    Holding("about.json", ""),
    Holding("*_embeddings.*", f"{_FEATURES}; {_NAMED_BY_RECORDING}"),
    # eegdm cache
    Holding("shards/*.npy", _FEATURES),
    # models
    Holding(
        "model.safetensors",
        "weights; they hold no names and no signals, but with effort one may be able to test"
        " whether somebody's EEG was among what they learned from",
    ),
    Holding("README.md", ""),
    Holding("curves.csv", ""),
    Holding("samples.npy", ""),
    Holding("samples/*.npy", ""),
    Holding("expectation.html", ""),
    Holding("checkpoints/**", "weights of an unfinished training, as of model.safetensors"),
    Holding("logs/**", "settings and scores; those of W&B name the machine, its user and folders"),
    # eegdm report
    Holding(
        "predictions-*.parquet",
        "for each window that was tested its recording, subject id, time, label and scores",
    ),
    Holding(
        "report.html",
        f"{_TRACES} of one recording with its name and events; names in warnings and failures",
    ),
    Holding(
        "report.md", "the name of one recording and its events; names in warnings and failures"
    ),
    Holding("report.json", "the same as report.md"),
    Holding("report.csv", ""),
    Holding("report.tex", ""),
    # eegdm predict
    Holding(
        "*_annotated.*",
        "the recording itself; patient and date are left out of the header unless --keep-identity"
        f" was given; {_NAMED_BY_RECORDING}",
    ),
    Holding("*_annotated_raw.fif", f"as of *_annotated.*; {_NAMED_BY_RECORDING}"),
    Holding("*_report.html", f"{_TRACES} and events of a recording, with its name"),
    Holding("*_events.tsv", f"when what happened in a recording; {_NAMED_BY_RECORDING}"),
    Holding(
        "*_events.json",
        f"the recording's file name, size and signal quality; {_NAMED_BY_RECORDING}",
    ),
    Holding("*_probabilities.parquet", f"scores of each window; {_NAMED_BY_RECORDING}"),
    Holding("eegdm_recordings.tsv", "the decision about each recording, by file and subject id"),
    Holding("eegdm_people.tsv", "the decision about each person, by subject id"),
    # eegdm surprise, find and suggest
    Holding("*_surprise.*", f"{_TRACES}, or numbers computed from them; {_NAMED_BY_RECORDING}"),
    Holding("found.html", f"{_TRACES} of many people, with file names and subject ids"),
    Holding("found.tsv", "file names, subject ids and times of what was found"),
    Holding("found.json", "the file name and time of what was looked for"),
    Holding("suggest.html", f"{_TRACES} of many people, with file names"),
    Holding("to_mark.csv", "file names and times"),
    # eegdm evaluate
    Holding("evaluation.html", "names in notes on failures and doubts; scores over all people"),
    Holding("evaluation.md", "the same as evaluation.html"),
    Holding("evaluation.json", "the same as evaluation.html"),
    *(
        Holding(f"{name}.csv", "")
        for name in ("scores", "differences", "chance", "choices", "identity")
    ),
    # eegdm generate
    Holding("generated_raw.*", ""),
)
"""The first that fits a file says what it holds."""
_READ = {CONFIG_FILE, artifacts.MANIFEST, artifacts.PLAN}
"""Files that are looked into, since they may hold names or not."""
_LOCKS = (artifacts.LOCK, artifacts.RUN, artifacts.WRITER.format("*"))


def describe_privacy(folder: str | Path) -> Iterator[str]:
    """Yield lines on what in a folder could identify people, what could not, and what is unknown.

    Args:
        folder: any that eegdm wrote to, finished or not, with all below it.

    Raises:
        UserError: no such folder, or nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; name one that eegdm wrote to")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = [file for file in files if not any(map(file.match, _LOCKS))]
    if not files:
        raise UserError(f"{folder}: holds no files; name a folder that eegdm wrote to")
    held: dict[Holding | None, list[str]] = {}
    for file in files:
        held.setdefault(_holding(folder, file), []).append(file.as_posix())
    yield f"{folder}: what could identify people"
    telling = {one: names for one, names in held.items() if one is not None and one.says}
    for one, names in telling.items():
        yield f"  {_shown(one, names)}: {one.says}"
    if not telling:
        yield "  nothing that eegdm knows of"
    if harmless := [_shown(one, n) for one, n in held.items() if one is not None and not one.says]:
        yield f"nothing that identifies people: {', '.join(harmless)}"
    if unknown := held.get(None):
        yield f"not known to eegdm by their names, look into them yourself: {joined(unknown)}"
    yield (
        "File names and subject ids stand as in the source: replace them there before preprocessing"
        " if they say who somebody is"
    )


def _shown(holding: Holding, names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{holding.pattern} ({len(names):,} files)"


def _holding(folder: Path, file: Path) -> Holding | None:
    """Return what a file holds; None if eegdm writes none of this name."""
    if file.name in _READ:
        return Holding(file.name, _read(folder / file))
    path = PurePosixPath(file.as_posix())
    return next((holding for holding in HOLDINGS if holding.fits(path)), None)


def _read(path: Path) -> str:
    """Say what a JSON file of settings holds of people."""
    content = artifacts.read_json(path)
    return "; ".join(_of_people(content)) if isinstance(content, dict) else ""


def _of_people(content: dict[str, Any]) -> Iterator[str]:
    if hashes := content.get(PEOPLE):
        yield (
            f"hashes of the subject ids of {len(hashes):,} people that the model learned from:"
            " whoever guesses an id can check it"
        )
    windows = (content.get("config") or {}).get("windows")
    if isinstance(windows, dict) and windows.get("leave_out"):
        yield "ids of subjects or sessions in windows.leave_out"
    named = [
        name for name in content.get("files") or {} if name.startswith(("signals", "features"))
    ]
    if any(name.endswith(".npy") for name in named):
        yield "names of recordings"
    if (content.get("summary") or {}).get("subject_warnings"):
        yield "names of files and subject ids in warnings"
