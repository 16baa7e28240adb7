"""The page that `eegdm find` writes: the query, and what is most like it, as traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eegdm.console import clock
from eegdm.features.finding import BAND_POWER, Found
from eegdm.inference.prediction_files import NO_DEVICE
from eegdm.inference.prediction_page import what_was_done
from eegdm.inference.preparation import Prepared
from eegdm.inference.surprise_page import stretch_picture
from eegdm.report.pages import Element, Section, Table, Text, write_html
from eegdm.report.traces import POLARITY

SHOWN = 6  # matches drawn as traces
LISTED = 60  # matches in the table; all are in the TSV file
COMPARED = {
    BAND_POWER: (
        "The log power of five frequency bands (0.5-4, 4-8, 8-13, 13-30 and 30-70 Hz) is compared."
    ),
    "tokens": "The log of the model's tokens is compared, of the deeper half of its blocks.",
}
MEANING = (
    "Distance is the root mean square of the differences of these features, as multiples of what"
    " each usually varies by in the same person and channel: two stretches that have nothing to do"
    " with each other are about 1.4 apart if both are ordinary, and farther if they are not."
    " Nearness says what a distance is worth in its person: it is the robust z-score of the log"
    " distance among all windows of that person. Most windows lie between -2 and 2; the nearest of"
    " a person who shows nothing like the query is often near 3."
)
LIMITS = (
    "Some stretch is always the nearest: a list of matches is not evidence that any of them shows"
    " the same thing. What is compared is a whole window, so that a short event counts for little"
    " among what surrounds it, and what fills most of a person's recordings is ordinary in that"
    " person and is not found. Look at the traces before a match is used as a mark."
)


def write_find_page(path: Path, found: Found, prepare: Callable[[str], Prepared]) -> None:
    """Write a self-contained HTML page.

    Args:
        prepare: gives the signal of a file.
    """
    query, asked = found.query, prepare(found.query.file)
    title = f"What is like {query.file} at {clock(query.onset_s, tenths=True)}"
    sections = [
        Section("Result", [Text(NO_DEVICE), *_result(found)]),
        Section(
            "The query",
            [
                Text(f"In the filtered signal. {POLARITY}"),
                stretch_picture(query.onset_s, query.duration_s, query_words(found), asked),
            ],
        ),
        Section("The nearest stretches", [*_nearest(found, prepare)]),
        Section("By person", [_by_person(found)]),
        Section("What the numbers mean", [Text(f"{COMPARED[found.features]} {MEANING}")]),
        Section("What the numbers cannot say", [Text(LIMITS)]),
        Section(
            "What was done to the signal of the query", [*what_was_done(asked.steps, found.notes)]
        ),
    ]
    write_html(path, title, sections)


def query_words(found: Found) -> str:
    """Say where the query is, and what of it is compared."""
    query = found.query
    what = (
        f"{' or '.join(query.channels)}, in any channel"
        if query.is_any_channel
        else f"all {len(query.channels)} channels"
    )
    at = f"{query.file} at {clock(query.onset_s, tenths=True)}, {query.duration_s:g} s"
    return f"The query: {at}; {what}"


def match_words(match: Any) -> str:
    """Say in a few words where a match is and how near."""
    channel = "" if match.channel == "n/a" else f", {match.channel}"
    return (
        f"{match.file} at {clock(match.onset, tenths=True)}{channel}: distance"
        f" {match.distance:.2f}, nearness {match.nearness:.1f}"
    )


def _result(found: Found) -> Iterator[Element]:
    yield Text(f"{query_words(found)}.")
    yield Text(
        f"It was compared with {found.n_windows} windows of {found.query.window_s:g} s of"
        f" {found.n_people} {'person' if found.n_people == 1 else 'people'}."
    )
    if found.matches.empty:
        yield Text("There is no other window.")
        return
    yield Text(f"The nearest: {match_words(next(found.matches.itertuples()))}.")


def _nearest(found: Found, prepare: Callable[[str], Prepared]) -> Iterator[Element]:
    for number, match in enumerate(found.matches.head(SHOWN).itertuples(), 1):
        words = f"{number}: {match_words(match)}"
        yield stretch_picture(match.onset, match.duration, words, prepare(str(match.file)))
    listed = found.matches.head(LISTED)
    rows = [
        [
            str(number),
            str(m.file),
            str(m.subject),
            clock(m.onset, tenths=True),
            f"{m.onset:.2f}",
            f"{m.duration:g}",
            str(m.channel),
            f"{m.distance:.2f}",
            f"{m.nearness:.1f}",
        ]
        for number, m in enumerate(listed.itertuples(), 1)
    ]
    header = [
        "",
        "file",
        "person",
        "time",
        "onset, s",
        "duration, s",
        "channel",
        "distance",
        "nearness",
    ]
    yield Table(header, rows, f"{len(listed)} of {len(found.matches)}, the nearest first.")


def _by_person(found: Found) -> Table:
    rows = [
        [
            str(person),
            str(len(own)),
            str(own.recording.nunique()),
            f"{own.distance.min():.2f}",
            f"{own.nearness.max():.1f}",
        ]
        for person, own in found.matches.groupby("subject", sort=False)
    ]
    header = ["person", "matches", "recordings", "least distance", "greatest nearness"]
    return Table(header, rows)
