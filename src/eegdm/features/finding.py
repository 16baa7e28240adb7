"""`eegdm.find`: a stretch of one recording in; out come the stretches of all recordings that are
most like it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from eegdm.data.files import file_name
from eegdm.data.montage import CHANNEL_ID
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.features.classical import BandPower
from eegdm.features.extractors import TOKENS, Extractor
from eegdm.features.making import (
    is_store,
    model_of,
    open_store,
    origin_of,
    store_folder,
    tokens_of,
)
from eegdm.features.similarity import (
    Background,
    Part,
    backgrounds,
    channel_distances,
    common_distances,
    first_apart,
    nearness,
)
from eegdm.features.store import FeatureStore
from eegdm.inference.chunks import read_batches
from eegdm.inference.embedding import BackboneReader, EmbedOptions, prepare_windows
from eegdm.inference.preparation import Prepared

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

BAND_POWER = "band_power"
FEATURES = (BAND_POWER, TOKENS)
TRIAL_TYPE = "similar"
TOP = 20
_TOKEN_FLOOR = 1e-6  # keeps the log of a silent channel finite
LEAST_WINDOWS = 5
"""Of a person; fewer are no background."""
_LIKE = re.compile(r"(?P<file>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<stop>\d+(?:\.\d+)?)", re.DOTALL)


class Stretch(NamedTuple):
    """A stretch of a file."""

    file: str
    start_s: float
    stop_s: float

    @classmethod
    def parse(cls, text: str) -> Stretch:
        """Read FILE@START-STOP, in seconds from the first sample; the last @ counts.

        Raises:
            UserError: the text is not of this form, or stops before it starts.
        """
        match = _LIKE.fullmatch(text)
        if match is None:
            raise UserError(
                f"like={text}: is not FILE@START-STOP in seconds, such as night.edf@12.5-17.5"
            )
        start, stop = float(match["start"]), float(match["stop"])
        if stop <= start:
            raise UserError(f"like={text}: stops at {stop:g} s, before or where it starts")
        return cls(match["file"], start, stop)


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        recording, file, subject: where it is, as in the folder of features.
        onset_s, duration_s: the stretch that was asked for.
        windows_s: where the windows start that stand for it.
        window_s: their length.
        channels: the channels of it that are compared.
        is_any_channel: whether any channel may match them; else each is compared with its namesake.
    """

    recording: str
    file: str
    subject: str
    onset_s: float
    duration_s: float
    windows_s: list[float]
    window_s: float
    channels: list[str]
    is_any_channel: bool


@dataclass(frozen=True)
class Found:
    """The stretches that are most like a query, the nearest first.

    ``matches`` has the columns onset, duration (s, from the first sample), trial_type ("similar"),
    file, recording, subject, channel (the nearest one, or "n/a" where all are compared), distance
    (root mean square of the differences of features, as multiples of what they usually vary by in
    the person) and nearness (robust z-score of the log distance among all windows of the same
    person: how unusually near the stretch is).
    """

    query: Query
    matches: pd.DataFrame
    features: str
    store: Path
    source: Path
    """The folder of the recordings."""
    n_windows: int
    n_people: int
    notes: list[str]


def find(
    source: str | Path,
    like: str | Stretch,
    model: SSMDP | EEGDM | str | Path | None = None,
    *,
    channel: str | None = None,
    top: int = TOP,
    features: str = BAND_POWER,
    **options: Any,
) -> Found:
    """Find the stretches of all recordings that are most like one of them.

    Features of each channel are measured by the mean and spread of the same person's windows, so
    that what is usual in a person counts for nothing. Matches do not overlap each other, nor the
    query.

    Args:
        source: a folder with recordings at any depth, or one that `eegdm embed` wrote of them.
        like: the stretch, FILE@START-STOP in seconds from the first sample; FILE is one of the
            recordings. A window centred on it stands for it, or several that cover it.
        model: a backbone or a classifier, or its folder, checkpoint or hub id; the packaged
            ``mini`` by default, or the model that made the features in ``source``.
        channel: look for what this channel of the stretch shows, in any channel; several are
            separated by commas. By default all channels are compared, each with its namesake.
        top: number of matches.
        features: "band_power" or "tokens".
        options: those of :func:`eegdm.embed_folder`, such as channels, missing, notch, step_s,
            device or workers.

    Raises:
        UserError: as :func:`eegdm.embed_folder`; the stretch is not in a recording of the folder,
            or the channel not in it.
    """
    stretch = Stretch.parse(like) if isinstance(like, str) else like
    store, reading = open_features(Path(source), stretch, model, features, options)
    with tempfile.TemporaryDirectory(prefix="eegdm-") as folder:
        return find_in(Path(folder), store, reading, stretch, channel, top)


class Reading(NamedTuple):
    """How the recordings of a store are read, and which of its features are compared."""

    features: str
    extractor: Extractor
    reader: BackboneReader
    root: Path
    options: EmbedOptions

    def comparable(
        self, values: Float[ndarray, "window channel ..."]
    ) -> Float[ndarray, "window channel feature"]:
        """Return features of which differences mean something: log powers, or the log tokens of the
        deep half of the blocks; mean activities, which can be negative, as they are.
        """
        if self.features == BAND_POWER:
            return np.asarray(values, np.float32)
        deep = np.array(values[:, :, values.shape[2] // 2 :], np.float32)
        width = deep.shape[3] // len(self.reader.spec.query)
        is_spread = np.repeat([pool == "std" for pool in self.reader.spec.pool], width)
        deep[..., is_spread] = np.log(np.maximum(deep[..., is_spread], _TOKEN_FLOOR))
        return deep.reshape(*deep.shape[:2], -1)

    def prepare(self, file: str, folder: Path) -> tuple[Prepared, WindowGrid]:
        """Prepare a recording as those in the store were, below ``folder``."""
        return prepare_windows(
            self.root / file,
            self.reader.preparation(self.options),
            self.reader.window_s,
            self.options.step_s,
            folder / file_name(file),
        )


def open_features(
    source: Path, stretch: Stretch, model: Any, features: str, options: dict[str, Any]
) -> tuple[FeatureStore, Reading]:
    """Return the store of a folder, made where it is missing, and how it is read.

    Raises:
        UserError: as :func:`eegdm.embed_folder`; the stretch is of no file in the folder; the
            recordings are not where they were.
    """
    if features not in FEATURES:
        raise UserError(f"features={features!r} is unknown; choose from {', '.join(FEATURES)}")
    needed: dict[str, Any] = (
        {"extractors": [BandPower()], "with_tokens": False} if features == BAND_POWER else {}
    )
    if is_store(source):
        store = open_store(source, **needed, model=model, **options)
    else:
        # Before hours of work
        if not (source / _below(source, stretch.file)).is_file():
            raise UserError(
                f"like={stretch.file}@...: is not a file in {source}; name one of its recordings"
            )
        model = "mini" if model is None else model
        folder = store_folder(source, model, options)
        store = open_store(source, **needed, model=model, out=folder, **options)
    origin = origin_of(store.path)
    if not origin.source.is_dir():
        raise UserError(
            f"{store.path}: the recordings that it was made from are not at {origin.source}; name"
            " the folder of recordings instead"
        )
    tokens = tokens_of(store, model_of(store.path) if model is None else model)
    extractor = BandPower() if features == BAND_POWER else tokens
    return store, Reading(features, extractor, tokens.reader, origin.source, origin.options)


def find_in(
    folder: Path,
    store: FeatureStore,
    reading: Reading,
    stretch: Stretch,
    channel: str | None,
    top: int,
) -> Found:
    """Do what :func:`find` does on an open store, keeping the query's signal in ``folder``."""
    if top < 1:
        raise UserError(f"top={top}: give 1 or more")
    row = _row_of(store, reading.root, stretch.file)
    query, values, notes = read_query(folder, reading, row, stretch, channel)
    people = backgrounds(parts_of(store, reading))
    enough = store.recordings.groupby("subject").n_windows.sum() >= LEAST_WINDOWS
    few = sorted(enough.index[~enough])
    if query.subject in few:
        raise UserError(
            f"{row.file}: there are fewer than {LEAST_WINDOWS} windows of {query.subject}, too few"
            " to know what is usual in this person"
        )
    if few:
        notes.append(
            f"left out, for they have fewer than {LEAST_WINDOWS} windows: {', '.join(few)}"
        )
    asked = people[query.subject].standardised(values, query.channels).mean(axis=0)
    size = float(np.sqrt((asked**2).mean()))
    if size < 1:
        notes.append(
            f"the stretch is ordinary for {query.subject}: its features differ from this person's"
            f" mean by {size:.2f} of their spread, so that other ordinary stretches are nearest; if"
            " what matters in it is on few channels, look for those alone"
        )
    distances = [
        _distances(part, people[part.person], asked, query)
        for part in parts_of(store, reading)
        if part.person not in few
    ]
    if lacking := [d.recording for d in distances if d.table is None]:
        notes.append(f"left out, for they have none of the channels: {', '.join(lacking)}")
    table = pd.concat([d.table for d in distances if d.table is not None], ignore_index=True)
    table = table[~_overlaps(table, query)].reset_index(drop=True)
    table["nearness"] = table.groupby("subject").distance.transform(
        lambda own: nearness(own.to_numpy(), own.to_numpy())
    )
    ordered = table.sort_values("distance", kind="stable")
    matches = first_apart(ordered, query.window_s, top)
    return Found(
        query,
        _as_events(matches, query, store),
        reading.features,
        store.path,
        reading.root,
        len(table),
        table.subject.nunique(),
        notes,
    )


# ------------------------------------------------------------------------------------------- query


def _below(root: Path, file: str) -> str:
    """The path of a file below a folder; the file is named from here, or from the folder."""
    path = Path(file)
    if path.exists() and path.resolve().is_relative_to(root.resolve()):
        path = path.resolve().relative_to(root.resolve())
    return path.as_posix()


def _row_of(store: FeatureStore, root: Path, file: str) -> Any:
    """The recording that a file is."""
    rows = store.recordings[store.recordings.file == _below(root, file)]
    if rows.empty:
        raise UserError(
            f"like={file}@...: is not one of the recordings in {root}; name one of them, such as"
            f" {store.recordings.file.iloc[0]}"
        )
    row = next(rows.itertuples())
    if row.status != "ok":
        raise UserError(f"like={file}@...: can't be used ({row.reason})")
    return row


def read_query(
    folder: Path, reading: Reading, row: Any, stretch: Stretch, channel: str | None
) -> tuple[Query, Float[ndarray, "window channel feature"], list[str]]:
    """What is looked for, its features at its exact time, and what to note of it."""
    if stretch.stop_s > row.duration_s:
        raise UserError(
            f"like={stretch.file}@{stretch.start_s:g}-{stretch.stop_s:g}: the recording lasts"
            f" {row.duration_s:g} s; name a stretch within it"
        )
    own = list(row.ch_names)
    channels = own if channel is None else channel.split(",")
    if unknown := [name for name in channels if name not in own]:
        raise UserError(
            f"channel={unknown[0]}: is not a channel of {row.file}, which has {', '.join(own)}"
        )
    prepared, grid = reading.prepare(row.file, folder)
    starts = query_starts(stretch, prepared.n_times, grid.n_times, prepared.sfreq)
    places = [own.index(name) for name in channels]
    ids = [CHANNEL_ID[prepared.taken_for[place]] for place in places]
    values = np.concatenate(
        [
            reading.comparable(
                reading.extractor(batch._replace(data=batch.data[:, places]), prepared.sfreq, ids)
            )
            for batch in read_batches(
                grid._replace(starts=starts),
                prepared.read,
                prepared.spread(),
                reading.options.batch_size,
            )
        ]
    )
    duration_s, window_s = stretch.stop_s - stretch.start_s, grid.n_times / grid.sfreq
    notes = []
    if duration_s < window_s / 2:
        notes.append(
            f"the stretch is {duration_s:g} s long and is compared with what surrounds it: windows"
            f" are {window_s:g} s long"
        )
    query = Query(
        row.recording,
        row.file,
        row.subject,
        stretch.start_s,
        duration_s,
        (starts / prepared.sfreq).tolist(),
        window_s,
        channels,
        channel is not None,
    )
    return query, values, notes


def query_starts(
    stretch: Stretch, n_times: int, window: int, sfreq: float
) -> Int[ndarray, " window"]:
    """Return where the windows start that stand for a stretch: one, centred on it, or as many as
    fit into it, spread evenly; within the recording.

    Args:
        n_times, window: length of the recording and of a window, in samples.
    """
    start, stop = stretch.start_s * sfreq, stretch.stop_s * sfreq
    n = max(1, int((stop - start + 0.5) // window))
    first, last = (start, stop - window) if n > 1 else ((start + stop - window) / 2,) * 2
    starts = np.rint(np.linspace(first, last, n)).astype(np.int64)
    return np.clip(starts, 0, n_times - window)


# --------------------------------------------------------------------------------------- distances


def parts_of(store: FeatureStore, reading: Reading) -> Iterator[Part]:
    """The features of each recording, one in memory at a time."""
    onsets = dict(tuple(store.windows.groupby("recording").onset_s))
    for row in store.recordings[store.recordings.status == "ok"].itertuples():
        values = reading.comparable(store.array(reading.extractor.name, row.recording))
        onset_s = onsets[row.recording].to_numpy()
        yield Part(row.recording, row.subject, onset_s, list(row.ch_names), values)


class _Distances(NamedTuple):
    recording: str
    table: pd.DataFrame | None
    """recording, subject, onset_s, channel, distance; None if there is no channel to compare."""


def _distances(
    part: Part, own: Background, asked: Float[ndarray, "channel feature"], query: Query
) -> _Distances:
    values = own.standardised(part.values, part.ch_names)
    channel: Any = "n/a"
    if query.is_any_channel:
        of_channels = channel_distances(values, asked)
        distance = of_channels.min(axis=1)
        channel = np.array(part.ch_names, object)[of_channels.argmin(axis=1)]
    else:
        found = common_distances(values, part.ch_names, asked, query.channels)
        if found is None:
            return _Distances(part.recording, None)
        distance = found
    about = {"recording": part.recording, "subject": part.person, "onset_s": part.onset_s}
    return _Distances(
        part.recording, pd.DataFrame({**about, "channel": channel, "distance": distance})
    )


def _overlaps(table: pd.DataFrame, query: Query) -> pd.Series:
    """Which windows share time with the query's stretch, or with the windows that stand for it."""
    first = min(query.onset_s, *query.windows_s)
    last = max(query.onset_s + query.duration_s, max(query.windows_s) + query.window_s)
    shared = (table.onset_s < last - 1e-6) & (table.onset_s + query.window_s > first + 1e-6)
    return (table.recording == query.recording) & shared


def _as_events(matches: pd.DataFrame, query: Query, store: FeatureStore) -> pd.DataFrame:
    files = store.recordings.set_index("recording").file
    return pd.DataFrame(
        {
            "onset": matches.onset_s,
            "duration": query.window_s,
            "trial_type": TRIAL_TYPE,
            "file": matches.recording.map(files).astype(str),
            "recording": matches.recording,
            "subject": matches.subject,
            "channel": matches.channel,
            "distance": matches.distance.astype(float),
            "nearness": matches.nearness.astype(float),
        }
    )
