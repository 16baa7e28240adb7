"""Whose a recording is, where only names of folders and files can tell.

A split by subject is as safe as this guess, so the guess follows few rules, is printed by
preprocess, and doubts are warnings (docs/corpora.md, "Who is a subject"). Words decide what a name
is not: `session2`, `eyes_open` and `train` are not people.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from eegdm.data.files import extension


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


RECORDING_WORDS = _word_set(
    "run r ses sess session rec record recording eeg edf bdf raw data rawdata file part seg segment"
    " block trial day night visit week month year baseline followup pre post before after rest"
    " resting task open opened close closed eyes eye eo ec awake wake sleep nap am pm morning"
    " evening left right ictal interictal preictal postictal seizure sz bckg spsw gped pled eyem"
    " artf background artifact clean cleaned filtered derivatives sourcedata preprocessed"
)
"""What several recordings of one person are called, with or without a number."""
PART_WORDS = _word_set("train training test testing val valid validation eval evaluation dev")
COLLECTION_WORDS = _word_set(
    "group site center centre hospital clinic lab cohort batch set dataset study"
)
"""What holds several people, with or without a number."""
GROUP_WORDS = _word_set(
    "control controls ctrl patient patients healthy hc case cases normal abnormal epilepsy"
)
"""What holds several people if no number follows: `control` does, `control01` is one of them."""
PERSON_WORDS = _word_set(
    "sub subj subject patient pat pt participant person proband case vp id p s"
)
"""What a person is called if a number follows."""
_WORD = re.compile(r"([^\W\d_]*)(\d*)")
_DATE = re.compile(r"(19|20)\d\d[-_.]?(0\d|1[0-2])[-_.]?([0-2]\d|3[01])|19[5-9]\d|20[0-3]\d")


def digest(subject: str) -> str:
    """Return the first 12 digits of the SHA-256 of a subject's name: what a model lists of the
    people whom it learned from.

    Names of folders may be those of patients, and models are handed on. Lists can still be
    compared; whoever guesses a name can check the guess.
    """
    return hashlib.sha256(subject.encode()).hexdigest()[:12]


class Word(NamedTuple):
    """A part of a name: letters, digits, or letters with digits behind them."""

    letters: str
    digits: str

    @property
    def text(self) -> str:
        return self.letters + self.digits


def words(name: str) -> list[Word]:
    """Split a name at separators and after digits, in lower case; dates are left out.

    >>> [word.text for word in words("Subject01_20200131-EyesOpen2b")]
    ['subject01', 'eyesopen2', 'b']
    """
    without_dates = re.sub(rf"(?<![^\W_])(?:{_DATE.pattern})(?![^\W_])", " ", name)
    # Dates are no numbers of people, and differ between the recordings of one.
    return [Word(*parts) for parts in _WORD.findall(without_dates.lower()) if any(parts)]


def telling(name: Sequence[Word], of_recordings: bool = True) -> list[Word]:
    """The words that may name a person: those of no list above, people's, and numbers that do not
    number a session.

    Args:
        name: a name's words.
        of_recordings: the name is of a file, where a number alone counts recordings.
    """
    kept: list[Word] = []
    numbers_nothing = not of_recordings
    for word, following in pairwise([*name, Word("", "")]):
        # The number may be a word of its own: "control 01".
        has_number = bool(word.digits) or (not following.letters and bool(following.digits))
        if word.letters in RECORDING_WORDS | PART_WORDS | COLLECTION_WORDS or (
            word.letters in GROUP_WORDS and not has_number
        ):
            numbers_nothing = False
        elif not word.letters:
            kept += [word] if numbers_nothing or _is_called(kept) else []
        elif len(word.letters) > 1 or word.digits or not of_recordings:
            kept.append(word)
            numbers_nothing = True
    return kept


def _is_called(kept: list[Word]) -> bool:
    return bool(kept) and kept[-1].letters in PERSON_WORDS | GROUP_WORDS


def is_called_a_person(name: Sequence[Word]) -> bool:
    """Whether a name says that it is a person's: `patient0`, `sub_12`."""
    return any(
        word.letters in PERSON_WORDS
        and (word.digits or (following.digits and not following.letters))
        for word, following in pairwise([*name, Word("", "")])
    )


# ------------------------------------------------------------------------------ folders or files


def guess(files: Sequence[str]) -> tuple[list[str], list[bool]]:
    """Name the subject of each file from the names of its folders, or from its own.

    A folder is a person where the file's name begins with the folder's, or where the files'
    names do not tell people apart. The innermost folder that can be a person's is taken. Names
    that occur twice get the folders above in front, unless those are sessions or parts of one
    corpus.

    Args:
        files: distinct posix paths below the corpus's folder.

    Returns:
        subjects, and for each whether a folder named it.
    """
    paths = [PurePosixPath(file) for file in files]
    # The safest sign first: a folder whose name the file repeats (chb01/chb01_03.edf).
    n_common = _common_folders(paths)
    depths = [_begins_like(path, n_common) for path in paths]
    if any(depth is None for depth in depths):
        levels = _person_levels(paths, n_common)
        says_more = _says_more(paths, levels)
        # The majority decides for all: half of a data set named by folders and half by files would
        # give one person two names.
        if 2 * sum(says_more) < len(says_more):
            depths = [
                level if depth is None else depth
                for depth, level in zip(depths, levels, strict=True)
            ]
    names = [
        _stem(path.name) if depth is None else path.parts[depth]
        for path, depth in zip(paths, depths, strict=True)
    ]
    # The same name in two places may be two people, so the folders above it belong to it then.
    above = [
        _people_above(path.parts[:-1] if depth is None else path.parts[:depth])
        for path, depth in zip(paths, depths, strict=True)
    ]
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for name, folders in zip(names, above, strict=True):
        places[name].add(folders)
    subjects = [
        "/".join([*folders, name]) if len(places[name]) > 1 else name
        for name, folders in zip(names, above, strict=True)
    ]
    return subjects, [depth is not None for depth in depths]


def _stem(name: str) -> str:
    return name.removesuffix(extension(name))


def _common_folders(paths: Sequence[PurePosixPath]) -> int:
    """How many leading folders all files share; they tell nobody apart."""
    folders = [path.parts[:-1] for path in paths]
    n = 0
    while folders and all(len(f) > n and f[n] == folders[0][n] for f in folders):
        n += 1
    return n


def _people_above(folders: Sequence[str]) -> tuple[str, ...]:
    """Folders without those of sessions, conditions and parts of a corpus, which hold the same
    people.
    """
    # The same person may be in several of these, so they must not become part of a name.
    same = RECORDING_WORDS | PART_WORDS
    return tuple(
        folder
        for folder in folders
        if any(word.letters and word.letters not in same for word in words(folder))
        or (folder.isdigit() and not _DATE.fullmatch(folder))
    )


def _begins_like(path: PurePosixPath, n_common: int) -> int | None:
    """The outermost folder whose name the file's begins with: chb01/chb01_03.edf."""
    file = words(path.name)
    for depth, folder in enumerate(path.parts[:-1]):
        name = words(folder)
        tells = depth >= n_common or any(word.digits for word in name)
        if name and tells and file[: len(name)] == name and telling(name, of_recordings=False):
            return depth
    return None


def _person_levels(paths: Sequence[PurePosixPath], n_common: int) -> list[int | None]:
    """For each file the innermost folder that can be a person's; None if none can."""
    parents: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        for depth in range(1, len(path.parts) - 1):
            if telling(words(path.parts[depth - 1]), of_recordings=False):
                parents[path.parts[depth]].add("/".join(path.parts[:depth]))
    levels: list[int | None] = []
    for path in paths:
        levels.append(None)
        for depth, folder in reversed(list(enumerate(path.parts[:-1]))):
            name = words(folder)
            if depth < n_common and not is_called_a_person(name):
                break
            # A folder that several people have is a session or a condition, whatever its name; s1
            # may be a session too.
            repeats = len(parents[folder]) > 1 and not (
                is_called_a_person(name) and name[0].letters != "s"
            )
            if telling(name, of_recordings=False) and not repeats:
                levels[-1] = depth
                break
    return levels


def _says_more(paths: Sequence[PurePosixPath], levels: Sequence[int | None]) -> list[bool]:
    """Whether each file's name names somebody else than its folder does: a person, or with words
    that no other folder's files have.
    """
    below = [
        (path.parts[level], words(_stem(path.name)))
        for path, level in zip(paths, levels, strict=True)
        if level is not None
    ]
    folders: dict[Word, set[str]] = defaultdict(set)
    for folder, name in below:
        for word in name:
            folders[word].add(folder)
    says_more = []
    for folder, name in below:
        beyond_folder = [word for word in telling(name) if word not in words(folder)]
        if is_called_a_person(beyond_folder):
            says_more.append(not is_called_a_person(words(folder)))
        else:
            # A word that other folders' files have too counts recordings, not people.
            says_more.append(any(folders[word] == {folder} for word in beyond_folder))
    return says_more


# ---------------------------------------------------------------------------------------- doubts


def doubts(files: Sequence[str], subjects: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each reason to doubt who was recognised from names.

    Args:
        files: posix paths below the corpus's folder.
        subjects: who was recognised in each.
    """
    # Nobody was recorded twice? Then the names may have been read as too fine.
    if len(set(subjects)) == len(files) > 1:
        yield from _shared_stems(files)
    folders: dict[str, set[str]] = defaultdict(set)
    for file, subject in zip(files, subjects, strict=True):
        folders[subject].add("/".join(_strangers(file, subject)))
    spread = [(subject, sorted(names)) for subject, names in folders.items() if len(names) > 1]
    if spread:
        subject, names = spread[0]
        where = ", ".join(f"{folder or '.'}/" for folder in names[:3])
        yield (
            f"{len(spread)} of {len(folders)} subjects have recordings in several folders that may"
            f" be different people ({subject!r} in {where});"
            " they are kept together; if they are different people, name subjects in the table or"
            " by a corpus.pattern whose group holds the folder too"
        )
    repeated = _repeated_names(files, subjects)
    if repeated:
        yield (
            f"names in several folders are taken for different people ({len(repeated)}):"
            f" {', '.join(map(repr, repeated[0][:3]))}; if they are one person, name subjects in"
            " the table or by corpus.pattern"
        )


def _strangers(file: str, subject: str) -> tuple[str, ...]:
    """The folders of a file that are neither sessions nor named after the subject, down to the
    latter.
    """
    parts = PurePosixPath(file).parts[:-1]
    named_so = [i for i, part in enumerate(parts) if subject.split("/")[-1] in part]
    return _people_above(parts[: named_so[0]] if named_so else parts)


def _repeated_names(files: Sequence[str], subjects: Sequence[str]) -> list[list[str]]:
    of_name: dict[str, set[str]] = defaultdict(set)
    for subject in subjects:
        if "/" in subject:
            of_name[subject.rpartition("/")[2]].add(subject)
    return [sorted(same) for same in of_name.values() if len(same) > 1]


def _shared_stems(files: Sequence[str]) -> Iterator[str]:
    """Say which names begin alike though each counts as a person: Subject01_1, Subject01_2."""
    stems = [_stem(PurePosixPath(file).name) for file in files]
    label_and_names = shared(stems)
    if label_and_names is None:
        return
    label, first, second = label_and_names
    yield (
        f"every recording counts as a person of its own, but the names of {first!r} and"
        f" {second!r} share {label!r}; if they are of one person, a split by subject would"
        " divide that person: name subjects in the table, or by"
        f" corpus.pattern{_example_pattern(files, first, second, label)}"
    )


def _example_pattern(files: Sequence[str], first: str, second: str, label: str) -> str:
    """An example of a pattern that finds the shared word, if a plain one does."""
    at = first.lower().find(label)
    after = re.escape(first[at + len(label) :][:1])
    letters = label.rstrip("0123456789")
    candidates = [
        rf"(?:^|/)(?P<subject>[^/{after}]+){after}" if at == 0 and after in ("_", "-") else "",
        rf"(?P<subject>{first[at : at + len(letters)]}\d+)" if at >= 0 and letters != label else "",
    ]
    # A pattern is offered only if it fits every file: one that fails would be tried and reported.
    for pattern in filter(None, candidates):
        matches = {file: re.search(pattern, file) for file in files}
        names = {_stem(PurePosixPath(f).name): m["subject"] for f, m in matches.items() if m}
        if all(matches.values()) and names[first] == names[second]:
            return f", for example corpus.pattern='{pattern}'"
    return ""


def shared(stems: Sequence[str]) -> tuple[str, str, str] | None:
    """Return a word that can be a person's and that several names share, and two such names; None
    if each name is somebody's.

    Words that all names begin with tell nobody apart, unless they have a number and the rest
    counts recordings (Subject01_1, Subject01_2).
    """
    split = [words(stem) for stem in stems]
    n_common = 0
    while all(len(s) > n_common + 1 and s[n_common] == split[0][n_common] for s in split):
        n_common += 1
    for position in range(n_common, max(map(len, split))):
        if shared_word := _shared_at(position, n_common, split, stems):
            return shared_word
    lead = split[0][:n_common]
    if any(word.digits for word in lead) and not any(telling(s[n_common:]) for s in split):
        return "_".join(word.text for word in lead), stems[0], stems[1]
    return None


def _shared_at(
    position: int, n_common: int, split: Sequence[Sequence[Word]], stems: Sequence[str]
) -> tuple[str, str, str] | None:
    """Names that share what can be a person's name up to a position, or alone there (EO_P01)."""
    holders: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(split):
        if len(name) <= position:
            continue
        word, upto = name[position], name[n_common : position + 1]
        if word.letters in RECORDING_WORDS | PART_WORDS | COLLECTION_WORDS:
            continue
        if word.letters and word.digits:
            holders[word.text].append(i)
        elif len(name) > position + 1 and (
            word.digits or word.letters not in GROUP_WORDS or telling(name[position + 1 :])
        ):
            holders["_".join(w.text for w in upto)].append(i)
    alike = {text: names for text, names in holders.items() if len(names) > 1}
    if not alike or len(holders) < 2 or _are_kinds(holders, split, position):
        return None
    text, (first, second, *_) = next(iter(alike.items()))
    return text, stems[first], stems[second]


def _are_kinds(
    holders: dict[str, list[int]], split: Sequence[Sequence[Word]], position: int
) -> bool:
    """Whether words without a number are rather kinds of people (adhd_p01, adhd_p02, ctrl_p03),
    each name with an own word behind it.
    """
    numbers = [i for names in holders.values() for i in names]
    behind = [tuple(telling(split[i][position + 1 :])) for i in numbers]
    return (
        all(behind)
        and len(set(behind)) == len(behind)
        and not any(c.isdigit() for text in holders for c in text)
    )
