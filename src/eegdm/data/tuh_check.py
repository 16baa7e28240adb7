"""TUEV, TUAB and TUSZ, which Temple University Hospital gives out on request: how to ask for them,
and whether a folder of one of them is whole and whom it shares with another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from eegdm.config import CorpusConfig, WindowConfig
from eegdm.data import tuh
from eegdm.data.corpora import TUH_PARTS, Source, events_beside, find_sources
from eegdm.data.reading import read_edf_header
from eegdm.data.windows import describe_event_counts, events_per_split
from eegdm.errors import UserError

Counts = dict[str, dict[str, int]]
"""What is counted in each part of a corpus: ``counts["eval"]["normal"]``."""


class TuhCorpus(NamedTuple):
    """What is known of one of the hospital's corpora."""

    title: str
    folder: str
    """Its folder on the hospital's server."""
    release: str
    events: str
    """Of ``corpus.events``: where its events stand."""
    published: Counts
    """Of that release, by its AAREADME.txt; TUEV's are events, which ``data.windows`` knows."""


TUH_CORPORA = {
    "tuev": TuhCorpus("TUEV, the TUH EEG Events Corpus", "tuh_eeg_events", "v2.0.1", "rec", {}),
    "tuab": TuhCorpus(
        "TUAB, the TUH Abnormal EEG Corpus",
        "tuh_eeg_abnormal",
        "v3.0.1",
        "folders",
        {
            "train": {"normal": 1_371, "abnormal": 1_346},
            "eval": {"normal": 150, "abnormal": 126},
        },
    ),
    "tusz": TuhCorpus(
        "TUSZ, the TUH EEG Seizure Corpus",
        "tuh_eeg_seizure",
        "v2.0.3",
        "csv_bi",
        {
            "train": {"recordings": 4_664, "subjects": 579, "seizures": 2_421},
            "dev": {"recordings": 1_832, "subjects": 53, "seizures": 1_081},
            "eval": {"recordings": 865, "subjects": 43, "seizures": 469},
        },
    ),
}


def how_to_get(name: str) -> str:
    """Return how to obtain one of :data:`TUH_CORPORA`, in words."""
    corpus = TUH_CORPORA[name]
    return f"""\
{corpus.title}, is free of charge and given out by Temple University Hospital to those who ask; no program may hand it on.
1. Open https://isip.piconepress.com/projects/nedc/html/tuh_eeg/ and follow "request access" to the form of the TUH EEG Corpus.
2. Fill it in (name, institution, address, purpose), sign it, and send it to the mail address on the form. An answer takes days.
3. The answer holds a user name and how to log in; fetch {corpus.folder}, {corpus.release}, with rsync as it describes.
4. `eegdm download {name} --out DIR` checks the folder; then `eegdm preprocess corpus={name} source=DIR`."""  # noqa: E501


def check_tuh(name: str, folder: Path, against: Path | None = None) -> Iterator[str]:
    """Yield what a folder of a TUH corpus holds: a line for each recording that is damaged or lacks
    its events, then counts beside those published, and subjects in more than one part.

    Headers are compared with the sizes of the files and all events are read; samples are not.

    Args:
        name: one of :data:`TUH_CORPORA`.
        folder: where the corpus lies.
        against: a folder of any TUH corpus; subjects that it has too are named for each part.

    Raises:
        UserError: not the corpus's layout, a recording that is not named as TUH names them,
            ``against`` names no subject, or (after everything else was said) some recordings are
            damaged.
    """
    corpus = CorpusConfig(name=name, source=str(folder), events=TUH_CORPORA[name].events)
    sources = find_sources(corpus)
    elsewhere = None if against is None else _subjects_of(against)
    tables, n_damaged = [], 0
    for source in sources:
        try:
            header = read_edf_header(source.file)
            events = events_beside(source, corpus, header.n_records * header.record_s)
            tables.append(events.assign(recording=source.recording))
        except UserError as fault:
            n_damaged += 1
            yield f"damaged  {fault}"
    yield (
        f"{folder}: {len(sources)} recordings of {len({source.subject for source in sources})}"
        f" subjects, {n_damaged} damaged"
    )
    if tables:
        yield from _describe_counts(name, sources, pd.concat(tables))
    if name != "tuev":
        # The evaluation of TUEV names nobody.
        yield _describe_parts(sources)
    if elsewhere is not None:
        yield from _describe_shared(sources, elsewhere, f"{against}")
    if n_damaged:
        raise UserError(
            f"{folder}: {n_damaged} of {len(sources)} recordings are damaged (above); fetch them"
            " again"
        )


def _subjects_of(folder: Path) -> set[str]:
    subjects = tuh.subjects_below(folder)
    if not subjects:
        raise UserError(
            f"--against {folder}: holds no EDF file that is named after a subject of TUH"
            " (aaaaaaac_s001_t000.edf); name the folder of a TUH corpus"
        )
    return subjects


# ----------------------------------------------------------------------------------------- counts


def _describe_counts(name: str, sources: Sequence[Source], events: pd.DataFrame) -> Iterator[str]:
    if name == "tuev":
        recordings = pd.DataFrame(sources)
        counts = events_per_split(recordings, events, name, WindowConfig())
        yield from describe_event_counts(counts, name)
        return
    montages = Counter(source.file.parent.name for source in sources)
    yield f"montages: {', '.join(f'{montage} {n:,}' for montage, n in sorted(montages.items()))}"
    published = TUH_CORPORA[name].published
    found = count_parts(name, sources, events)
    yield from (f"{part}: {_counted(counts)}" for part, counts in found.items())
    title = f"{name.upper()} {TUH_CORPORA[name].release}"
    if found == published:
        yield f"these are the counts of {title}"
    else:
        parts = "; ".join(f"{part}: {_counted(counts)}" for part, counts in published.items())
        yield f"these are not the counts of {title}, which has {parts}"


def count_parts(name: str, sources: Sequence[Source], events: pd.DataFrame) -> Counts:
    """Count in each part of TUAB or TUSZ what is published of it.

    Args:
        name: "tuab" or "tusz".
        sources: the recordings that were found.
        events: event tables of them, one below the other, with the further column recording.

    Returns:
        Recordings of each label (TUAB), or recordings, subjects and seizures (TUSZ), for each part
            of the published ones.
    """
    counts: Counts = {}
    for part, known in TUH_CORPORA[name].published.items():
        own = [source for source in sources if source.split == TUH_PARTS[part]]
        labels = events.label[events.recording.isin([source.recording for source in own])]
        every = {
            **{label: int((labels == label).sum()) for label in tuh.TUAB_LABELS},
            "recordings": len(own),
            "subjects": len({source.subject for source in own}),
            "seizures": len(labels),
        }
        counts[part] = {what: every[what] for what in known}
    return counts


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counts.items())


# --------------------------------------------------------------------------------------- subjects


def _by_part(sources: Sequence[Source]) -> dict[str, set[str]]:
    """The subjects of each part that there is."""
    parts = {part: {s.subject for s in sources if s.split == to} for part, to in TUH_PARTS.items()}
    return {part: subjects for part, subjects in parts.items() if subjects}


def _describe_parts(sources: Sequence[Source]) -> str:
    times = Counter(subject for subjects in _by_part(sources).values() for subject in subjects)
    shared = sorted(subject for subject, n in times.items() if n > 1)
    return f"subjects in more than one part: {_listed(shared)}"


def _describe_shared(
    sources: Sequence[Source], elsewhere: Collection[str], where: str
) -> Iterator[str]:
    for part, subjects in _by_part(sources).items():
        shared = sorted(subjects.intersection(elsewhere))
        # As it may be given to the stages that read.
        leave_out = f"; windows.leave_out=[{','.join(shared)}]" if shared else ""
        yield f"{part}: {len(shared)} of {len(subjects)} subjects are also in {where}{leave_out}"


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "none"
