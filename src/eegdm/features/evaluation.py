"""`eegdm evaluate`: recordings and labels in; out comes one page that says what a model's tokens
are worth for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm import __version__, artifacts
from eegdm.console import say
from eegdm.data.people import digest
from eegdm.data.windows import evenly
from eegdm.errors import UserError
from eegdm.evaluation.across_people import N_PERMUTATIONS, LabelledWindows
from eegdm.evaluation.covariance import log_covariance
from eegdm.evaluation.study import (
    BAND_POWER,
    COVARIANCE,
    Evaluation,
    Networks,
    StudyFacts,
    readouts,
    study,
)
from eegdm.features.classical import BandPower, Covariance
from eegdm.features.extractors import TOKENS
from eegdm.features.labels import share
from eegdm.features.making import default_name, is_store, model_name, model_of, open_store
from eegdm.features.store import FeatureStore
from eegdm.features.twins import twin_tokens
from eegdm.models.pretrained import PEOPLE
from eegdm.report.evaluation_page import PAGE, read_evaluation, write_evaluation

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

BY = ("subject", "recording")
N_TWINS = 3
MAX_STUDY_WINDOWS = 1500
"""Windows of all people together, where their number per person is not chosen: what two cores
compare in minutes."""
EVALUATIONS = Path("runs") / "evaluations"
STORE = "embeddings"
STUDY_FORMAT = 2
"""Of the results; others are computed again."""


def evaluate(
    source: str | Path,
    table: str | Path | None = None,
    model: SSMDP | EEGDM | str | Path | None = None,
    *,
    by: str = "subject",
    out: str | Path | None = None,
    windows: int | None = None,
    classes: Sequence[str] | None = None,
    permutations: int = N_PERMUTATIONS,
    **options: Any,
) -> Evaluation:
    """Compare a model's tokens across people with those of random weights and with classical
    features, and write a page about it.

    Every window goes through the model and through three networks like it with random weights,
    once; the same call resumes after an interruption, and is done in seconds when nothing is new.

    Args:
        source: a folder with recordings at any depth, or one that `eegdm embed` wrote of them.
        table: labels of the recordings, or of stretches of them; needed with recordings.
        model: a backbone or a classifier, or its folder, checkpoint or hub id; the packaged
            ``mini`` by default, or the model that made the features in ``source``.
        by: what a head must not know when it is tested: "subject", or "recording" where each
            recording is of somebody else.
        out: the folder to write; by default `runs/evaluations/<name of source>-<name of model>`.
        windows: at most this number for each label of a person, spread evenly; by default as many
            as keep all together at about 1,500.
        classes: labels to tell apart; all by default.
        permutations: labellings by chance.
        options: those of :func:`eegdm.embed_folder`, such as workers, channels, missing or device.

    Returns:
        The tables and what they are about. In ``out`` are evaluation.html, .md and .json, and the
        tables as CSV.

    Raises:
        UserError: as :func:`eegdm.embed_folder`; windows have no labels, or fewer than 3 people
            hold a label.
    """
    begun = time.monotonic()
    from eegdm.checkpoints.load import load_model

    source = Path(source)
    if by not in BY:
        raise UserError(f"by={by!r} is unknown; choose from {', '.join(BY)}")
    given, model = model, model_of(source) if model is None else model
    name = model_name(model)
    folder = Path(out) if out is not None else EVALUATIONS / default_name(source, model)
    own: dict[str, Any] = (
        {"table": table, "model": given}
        if is_store(source)
        else {"table": table, "model": model, "out": folder / STORE}
    )
    device = options.get("device", "auto")
    loaded = load_model(model)  # once for all twins
    twins = [twin_tokens(loaded, k, device) for k in range(N_TWINS)]
    store = open_store(source, [*twins, BandPower(), Covariance()], **options, **own)
    labelled = _labelled(store, by, classes, windows)
    n_people = len(labelled.windows.people)
    settings = {
        "format": STUDY_FORMAT,
        "version": __version__,
        "features": store.artifact.fingerprint,
        "by": by,
        "windows": artifacts.fingerprint(labelled.rows.tolist()),
        "permutations": permutations,
    }
    done = read_evaluation(folder)
    if done is not None and done.about.settings == settings:
        say("evaluate: nothing is new; the page is written again")
        write_evaluation(done)
        return done
    networks = Networks(name, [name], [f"{name} at random, {k}" for k in range(N_TWINS)])
    say(
        f"evaluate: {len(labelled.rows)} windows of {n_people} people"
        f" ({', '.join(labelled.windows.classes)}); heads learn from some and judge others"
    )
    arrays = [TOKENS, *(twin.name for twin in twins)]
    features = _features(store, labelled, networks, arrays)
    found = study(features, labelled.windows, networks, permutations)
    about = _describe_study(store, labelled, networks, by, model, settings)
    evaluation = Evaluation(about, found, folder / PAGE)
    write_evaluation(evaluation)
    say(f"evaluate: done in {time.monotonic() - begun:.0f} s")
    return evaluation


# -------------------------------------------------------------------------------------- features


class _Labelled(NamedTuple):
    """The windows of a store that are compared."""

    rows: np.ndarray
    windows: LabelledWindows
    table: pd.DataFrame


def _labelled(
    store: FeatureStore, by: str, classes: Sequence[str] | None, most: int | None
) -> _Labelled:
    """Choose windows that have a label: for each label of a person the same number, spread evenly,
    where there are that many.
    """
    if "label" not in store.windows:
        raise UserError("table=None: a table of labels is needed; name one")
    columns = store.recordings[["recording", "subject"]]
    table = store.windows.merge(columns, on="recording", how="left")
    table["person"] = table["subject" if by == "subject" else "recording"]
    labels = sorted(table.label.dropna().unique()) if classes is None else list(classes)
    if unknown := sorted(set(labels) - set(table.label.dropna())):
        raise UserError(
            f"classes={unknown[0]}: no window has this label; there are"
            f" {', '.join(sorted(table.label.dropna().unique())) or 'no labels'}"
        )
    table = table[table.label.isin(labels)]
    if table.empty:
        raise UserError("no window has a label: the table covers none of them by half or more")
    groups = list(table.groupby(["person", "label"]).indices.values())
    most = share([len(own) for own in groups], MAX_STUDY_WINDOWS) if most is None else most
    if most < 2:
        raise UserError(f"windows={most}: give 2 or more for each label of a person")
    chosen = np.sort(np.concatenate([own[evenly(len(own), most)] for own in groups]))
    table = table.iloc[chosen]
    number = table.label.map({name: k for k, name in enumerate(labels)}).to_numpy(int)
    windows = LabelledWindows(
        number, table.person.to_numpy(str), table.recording.to_numpy(str), labels
    )
    return _Labelled(table.index.to_numpy(), windows, table)


def _features(
    store: FeatureStore, labelled: _Labelled, networks: Networks, arrays: Sequence[str]
) -> dict[str, np.ndarray]:
    """All features of the chosen windows, by name.

    Args:
        arrays: where the store has the tokens of each network.
    """
    channels, n = store.common_channels(), len(labelled.rows)
    power = store.stack(BandPower().name, channels).values[labelled.rows]
    matrices = _matrices(store, channels)[labelled.rows]
    found = {
        BAND_POWER: power.reshape(n, -1),
        COVARIANCE: log_covariance(matrices, channels),
    }
    for name, array in zip((*networks.trained, *networks.twins), arrays, strict=True):
        found |= readouts(name, store.stack(array, channels).values[labelled.rows])
    return found


def _matrices(store: FeatureStore, channels: Sequence[str]) -> np.ndarray:
    """Covariances of the channels that every recording has."""
    usable = store.recordings[store.recordings.status == "ok"]
    found = []
    for row in usable.itertuples():
        own = [list(row.ch_names).index(name) for name in channels]
        found.append(store.array(Covariance().name, row.recording)[:, own][:, :, own])
    return np.concatenate(found)


# --------------------------------------------------------------------------------- what it is about


def _describe_study(
    store: FeatureStore,
    labelled: _Labelled,
    networks: Networks,
    by: str,
    model: Any,
    settings: dict[str, Any],
) -> StudyFacts:
    from eegdm.checkpoints.load import load_backbone

    windows, table = labelled.windows, labelled.table
    summary = store.artifact.summary
    usable = store.recordings[store.recordings.status == "ok"]
    failed = store.recordings[store.recordings.status != "ok"]
    notes = [f"{row.file}: {row.reason}" for row in failed.itertuples()]
    if by == "subject":
        notes += [str(warning) for warning in summary.get("subject_warnings", [])]
    info = load_backbone(model).info
    return StudyFacts(
        networks=networks,
        by=by,
        classes=list(windows.classes),
        n_windows={name: int((windows.label == k).sum()) for k, name in enumerate(windows.classes)},
        n_people={
            name: len(np.unique(windows.person[windows.label == k]))
            for k, name in enumerate(windows.classes)
        },
        people=len(windows.people),
        people_of_one_class=windows.people_of_one_class,
        recordings=int(table.recording.nunique()),
        recordings_of_one_class=int((table.groupby("recording").label.nunique() == 1).sum()),
        people_from=str(summary.get("subjects_from", "")),
        window_s=float(table.duration_s.iloc[0]),
        channels=store.common_channels(),
        channels_left_out=sorted(
            {n for own in usable.ch_names for n in own} - set(store.common_channels())
        ),
        overlap=_overlap(info, table.subject),
        pretrained_on=str(info.get("data", "")) if isinstance(info.get("data"), str) else "",
        notes=notes,
        settings=settings,
    )


def _overlap(info: Mapping[str, Any], subjects: Iterable[str]) -> list[str] | None:
    """Subjects of this evaluation whose names are those of people whom the model was pretrained on;
    None where it does not list its people.
    """
    known = info.get(PEOPLE)
    if not isinstance(known, list):
        return None
    return sorted(subject for subject in set(subjects) if digest(subject) in known)
