"""What the channel names of a file mean: electrodes of the 10-05 system in every spelling.

Names are read together, for one name says too little. A1 is an ear among C3, Cz and Fp1, and the
vertex in a cap that counts A1 to A32; `Fp1-Cz_Ref` names a reference if most names end so.

A label that looks like an electrode is not taken for one (`_counted_labels`) where

1. its series steps on to numbers that its row of the 10-05 system never has: A1 A2 A3, C5 C6 C7;
2. its series counts 1, 2, 3 as rows of 10-10 caps do (F1 F2 F3), but the list shows no cap (no
   midline electrode, no Fp1 or Fp2, no two rows such as FC and CP of which none counts 1, 2, 3), or
   contacts are counted beside it and the list has none of AFz, FCz, CPz, POz, which such a cap has;
3. the list shows no cap and holds a series of 1 or 2, or contacts that are counted under several
   other letters (B1 B2 B3 B4 B5, H1 ...).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

# Left: newer names, and what typists make of them ("01" with a zero stands in a file of CHB-MIT).
# Right: ours.
_ALIASES = {
    "T7": "T3",
    "T8": "T4",
    "P7": "T5",
    "P8": "T6",
    "M1": "A1",
    "M2": "A2",
    "01": "O1",
    "02": "O2",
}
_STAND_INS = ("M1", "M2")  # the mastoids, taken for the ears where a file has no ears

# Names of a common reference that is not a single electrode. Others are known by their company:
# most names of a file end in them.
_REFERENCES = (
    "REF",
    "LE",
    "AR",
    "AVG",
    "AV",
    "CAR",
    "CS2",
    "LER",
    "A1A2",
    "M1M2",
    "A1+A2",
    "M1+M2",
)
_SHARED_BY = 3  # the minimum of names that end in an electrode, if it is to be a file's reference

# Rows of the 10-05 system from front to back; where two names are given, the second is its lateral
# part (7 to 10).
_SHORT_ROWS = ("FP", "O", "OI", "I")
_LONG_ROWS = (
    ("AFP", "AFP"),
    ("AF", "AF"),
    ("AFF", "AFF"),
    ("F", "F"),
    ("FFC", "FFT"),
    ("FC", "FT"),
    ("FCC", "FTT"),
    ("C", "T"),
    ("CCP", "TTP"),
    ("CP", "TP"),
    ("CPP", "TPP"),
    ("P", "P"),
    ("PPO", "PPO"),
    ("PO", "PO"),
    ("POO", "POO"),
)


def _ten_five_names() -> frozenset[str]:
    """All 343 names of the 10-05 system and the older T3..T6, A1, A2, in upper case (Oostenveld &
    Praamstra 2001).
    """
    midline = [f"{row}Z" for row in (*_SHORT_ROWS, *(central for central, _ in _LONG_ROWS))]
    short = [
        f"{row}{column}{half}" for row in _SHORT_ROWS for column in (1, 2) for half in ("", "H")
    ]
    long = [
        f"{central if column <= 6 else lateral}{column}{half}"
        for central, lateral in _LONG_ROWS
        for column in range(1, 11)
        for half in ("", "H")
    ]
    return frozenset([*midline, *short, *long, "T3", "T4", "T5", "T6", "A1", "A2", "M1", "M2"])


ELECTRODES = _ten_five_names()


class Lead(NamedTuple):
    """What a file channel measures: `plus` against `minus`, an electrode, the name of a reference,
    or "" if unsaid.
    """

    plus: str
    minus: str

    @property
    def is_bipolar(self) -> bool:
        return self.minus in ELECTRODES

    def label(self) -> str:
        return f"{self.plus}-{self.minus}" if self.minus else self.plus


@dataclass(frozen=True)
class Names:
    """The channel names of a file, read together."""

    ch_names: tuple[str, ...]
    leads: Mapping[Lead, tuple[str, ...]]
    """What is measured -> the channels that measure it, in file order; more than one where the
    same is named repeatedly.
    """
    doubts: Mapping[str, str]
    """Channel -> why it is not taken for the electrode that it is spelt as."""
    series: tuple[str, ...]
    """The series of counted labels that only look like electrodes, such as "A1 to A32"."""
    reference: str | None
    """The electrode that most channels are measured against, if the names say so."""
    repeated: tuple[str, ...] = ()
    """Channels left out because another one that measures the same was chosen."""

    def settled(self, chosen: Mapping[Lead, str], doubts: Mapping[str, str]) -> Names:
        """Of repeated leads keep the chosen channel; take the doubtful channels for nothing."""
        leads = {
            lead: (chosen[lead],) if lead in chosen else kept
            for lead, names in self.leads.items()
            if (kept := tuple(name for name in names if name not in doubts))
        }
        repeated = tuple(
            name for lead, channel in chosen.items() for name in self.leads[lead] if name != channel
        )
        return replace(self, leads=leads, doubts={**self.doubts, **doubts}, repeated=repeated)

    def without_bads(self, bads: Iterable[str]) -> Names:
        """Take the channels that somebody marked as bad for nothing."""
        marked = [name for name in self.ch_names if name in set(bads)]
        names = ", ".join(ascii(name)[1:-1] for name in marked)
        why = f"marked as bad in the recording and not used: {names}"
        return self.settled({}, dict.fromkeys(marked, why)) if marked else self

    def with_lead(self, lead: Lead, channel: str) -> Names:
        """Add a channel that is made from the file's."""
        return replace(
            self,
            ch_names=(*self.ch_names, channel),
            leads={**self.leads, lead: (channel,)},
        )

    def note(self) -> str | None:
        """What to say of the channels that are not taken for electrodes; None if there are none."""
        parts = [
            f"not taken for electrodes of the 10-20 system: {', '.join(self.series)} (numbered"
            " contacts, as those of BioSemi caps and depth electrodes)"
        ] * bool(self.series)
        others = dict.fromkeys(why for why in self.doubts.values() if why not in self.series)
        return "; ".join([*parts, *others]) or None

    def refusal(self) -> str:
        """What to add to a refusal: the note, and what to do; "" if there is nothing to say."""
        note = self.note()
        advice = (
            "; rename them to the electrodes that they are (a 10-10 cap is known by its midline,"
            " such as Cz)"
        )
        note = f"{note}{advice}" if self.series else note
        return f". {note[:1].upper()}{note[1:]}" if note else ""


def read_names(ch_names: Sequence[str], intracranial: Iterable[str] = ()) -> Names:
    """Read the names of all channels of a file: `EEG FP1-REF`, `Fc5.`, `T8-P8-0` (MNE numbers
    repeated names), `F7-T3`, ...

    Args:
        ch_names: the file's channels, in its order.
        intracranial: those that the file itself says lie in or on the brain.
    """
    doubts = dict.fromkeys(intracranial, "intracranial channels by their type are left out")
    split = {name: _name_parts(name) for name in ch_names if name not in doubts}
    counted, series = _counted_labels(word for pair in split.values() for word in pair)
    references = {*_REFERENCES, *_shared_references(split.values())}
    read: dict[str, Lead] = {}
    for name, (plus, minus) in split.items():
        lead = _lead(plus, minus, references)
        if what := counted.get(plus) or counted.get(minus):
            doubts[name] = what
        elif lead is not None:
            read[name] = lead
    # A mastoid stands in for an ear only where the file has no ear against the same reference.
    not_stand_ins = {lead for name, lead in read.items() if split[name][0] not in _STAND_INS}
    leads: dict[Lead, tuple[str, ...]] = {}
    for name, lead in read.items():
        if split[name][0] not in _STAND_INS or lead not in not_stand_ins:
            leads[lead] = (*leads.get(lead, ()), name)
    return Names(tuple(ch_names), leads, doubts, series, _shared(leads))


def spelt(name: str) -> str:
    """The part of a name that should be an electrode, in upper case, without type and reference."""
    return _name_parts(name)[0]


# ------------------------------------------------------------------------------------ single names


def _name_parts(name: str) -> tuple[str, str]:
    """What stands before and after the hyphen, in upper case, without the type before it and the
    number or dots after it.
    """
    # Typists' dashes, and the minus sign, are hyphens.
    text = re.sub(r"[\u2010-\u2015\u2212]", "-", " ".join(name.upper().split()))
    # EDF+ puts the type of a signal before its name; Nihon Kohden writes POL.
    text = re.sub(r"^(EEG|POL)[ _.:-]+(?=.)", "", text)
    # PhysioNet's motor imagery data set fills names with dots: "Fc5.".
    text = re.sub(r" *([-_/:]) *", r"\1", text).rstrip(".")
    # MNE numbers names that occur twice: T8-P8-0, T8-P8-1.
    text = re.sub(r"(?<=.)-\d$", "", text)
    plus, minus = _parted(text)
    return plus.replace(" ", "").rstrip("."), minus.replace(" ", "").rstrip(".")


def _parted(text: str) -> tuple[str, str]:
    if "-" in text:
        plus, _, minus = text.partition("-")
        return plus, minus
    # Other separators count only behind an electrode: AUX_1 and "left hand" are names.
    for separator in "_/: ":
        plus, _, minus = text.partition(separator)
        if minus and _canonical(plus) is not None:
            return plus, minus
    return text, ""


def _canonical(word: str) -> str | None:
    word = _ALIASES.get(word, word)
    return word if word in ELECTRODES else None


def _lead(plus: str, minus: str, references: Iterable[str]) -> Lead | None:
    electrode = _canonical(plus)
    if electrode is None:
        return None
    if minus == "" or minus in references:
        return Lead(electrode, minus)
    other = _canonical(minus)
    return None if other is None else Lead(electrode, other)


# ---------------------------------------------------------------------------------- names together


def _shared_references(split: Iterable[tuple[str, str]]) -> set[str]:
    """Words that are not electrodes, but what more than half of the electrodes are measured
    against.
    """
    # Laboratories name their references as they like; a majority is what gives one away.
    ends = Counter(minus for plus, minus in split if _canonical(plus) is not None)
    return {
        word
        for word, count in ends.items()
        if word and _canonical(word) is None and count >= 2 and 2 * count > ends.total()
    }


def _shared(leads: Mapping[Lead, Sequence[str]]) -> str | None:
    """The electrode that more than half of the leads are measured against."""
    ends = Counter(lead.minus for lead in leads)
    word, count = max(ends.items(), key=lambda item: item[1], default=("", 0))
    is_shared = count >= _SHARED_BY and 2 * count > len(leads)
    return word if is_shared and word in ELECTRODES else None


# ------------------------------------------------------------------- labels that only look like it

_SERIES = re.compile(r"([^0-9]*)([0-9]{1,4})")
_LARGEST_STEP = 2  # numbers that far apart still belong to one run: a contact may be left out
_CAP_MIDLINE = ("AFZ", "FCZ", "CPZ", "POZ")


def _row_numbers() -> dict[str, frozenset[int]]:
    """The numbers of each row; beyond the 10-05 system, T1 and T2 of older sets, and 11 and 12 of
    caps that reach below the 10-20 system's outer ring.
    """
    rows: dict[str, set[int]] = defaultdict(set, {"": {1, 2}, "T": {1, 2}})
    for name in ELECTRODES:
        if match := _SERIES.fullmatch(name):
            rows[match[1]].add(int(match[2]))
    for row in ("F", "FT", "TP", "P"):
        rows[row] |= {11, 12}
    return {row: frozenset(numbers) for row, numbers in rows.items()}


_ROWS = _row_numbers()


def _counted_labels(words: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Words of series that look like electrodes and are not, by the rule at the head of this
    module: each with its series; and these series.
    """
    known = set(words)
    series = _series(known)
    counted: dict[str, str] = {}
    labels = []
    for row, numbers in sorted(_not_rows(series, known).items()):
        members = [word for number in sorted(numbers) for word in series[row][number]]
        if any(_canonical(word) is not None for word in members):
            labels.append(_series_label(members, numbers))
            counted |= dict.fromkeys(members, labels[-1])
    return counted, tuple(labels)


def _not_rows(series: Mapping[str, Mapping[int, object]], words: set[str]) -> dict[str, set[int]]:
    """The numbers of each row that are not electrodes."""
    # Rule 1 needs no company: its numbers are in no row.
    not_rows = {row: _beyond(row, set(series[row])) for row in series if row in _ROWS}
    outside = {f"{row}{number}" for row, numbers in not_rows.items() for number in numbers}
    has_contacts = _any_row(not_rows) or _n_other_contacts(series, words) >= 2
    # Rule 2, by the names that are left: contacts must not make a cap themselves.
    if _shows_cap(words - outside):
        if has_contacts and not words.intersection(_CAP_MIDLINE):
            not_rows |= {row: set(series[row]) for row in not_rows if _counts_from_one(series[row])}
        return not_rows
    not_rows |= {
        row: set(series[row])
        for row in not_rows
        if row and (_counts_from_one(series[row]) or not _ROWS[row].issuperset(series[row]))
    }
    # Rule 3: without a cap one foreign series makes all the others doubtful.
    is_foreign = has_contacts or _any_row(not_rows)
    return {row: set(series[row]) for row in not_rows} if is_foreign else not_rows


def _any_row(beyond: Mapping[str, set[int]]) -> bool:
    """Whether a row of letters is at fault; bare numbers say nothing of the others."""
    return any(numbers for row, numbers in beyond.items() if row)


def _series(words: Iterable[str]) -> dict[str, dict[int, list[str]]]:
    """Letters -> number -> the words that are made of them."""
    series: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for word in sorted(words):
        if match := _SERIES.fullmatch(word):
            series[match[1]].setdefault(int(match[2]), []).append(word)
    return series


def _row_of(word: str) -> str:
    match = _SERIES.fullmatch(word)
    return match[1] if match else word


def _beyond(row: str, numbers: set[int]) -> set[int]:
    """The numbers of all runs that hold both numbers that the row has and others."""
    beyond: set[int] = set()
    for run in _runs_of_numbers(numbers):
        has = _ROWS[row]
        # T1 to T6 are old names and T7 to T10 new ones: no cap counts T1 to T8.
        if row == "T":
            has = frozenset(range(1, 7)) if min(run) < 3 else frozenset(range(3, 11))
        if not has.isdisjoint(run) and not has.issuperset(run):
            beyond |= set(run)
    return beyond


def _runs_of_numbers(numbers: set[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for previous, number in pairwise([-_LARGEST_STEP - 1, *sorted(numbers)]):
        if number - previous > _LARGEST_STEP:
            runs.append([])
        runs[-1].append(number)
    return runs


def _counts_from_one(numbers: Iterable[int]) -> bool:
    return {1, 2, 3} <= set(numbers)


def _shows_cap(words: set[str]) -> bool:
    scalp = words & ELECTRODES
    rows, series = {_row_of(word) for word in scalp}, _series(scalp)
    # Two shanks of contacts, CP1 to CP5 and AF1 to AF5, must not make a cap of each other
    uncounted = {row for row in rows if len(row) == 2 and not _counts_from_one(series[row])}
    return any(word.endswith("Z") for word in scalp) or "FP" in rows or len(uncounted) >= 2


def _n_other_contacts(series: Mapping[str, Mapping[int, object]], words: set[str]) -> int:
    """How many letters that are no row of the 10-05 system are counted to 5 or more, without a
    midline of their own.
    """
    return sum(
        set(range(1, 6)) <= set(numbers) and f"{letters}Z" not in words
        for letters, numbers in series.items()
        # Depth electrodes have one letter, and a prime on the left or the right: A, B'.
        if letters not in _ROWS and (len(letters) == 1 or letters.endswith("'"))
    )


def _series_label(members: Sequence[str], numbers: set[int]) -> str:
    is_whole = len(members) > 2 and len(members) == max(numbers) - min(numbers) + 1
    return f"{members[0]} to {members[-1]}" if is_whole else ", ".join(members)
