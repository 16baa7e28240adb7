"""`eegdm fit`: a few marks in recordings -> a classifier, with what to expect of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from eegdm import artifacts
from eegdm.config import CorpusConfig
from eegdm.console import say
from eegdm.data.corpora import table_path
from eegdm.data.events import read_event_table
from eegdm.data.windows import WindowGrid, evenly
from eegdm.errors import UserError
from eegdm.evaluation.centring import refuse_removed_labels
from eegdm.evaluation.cross_fitting import (
    RECORDINGS,
    WINDOWS,
    CrossFitted,
    Expectation,
    Fitted,
    Marked,
    ReadRows,
    StoredTokens,
    cross_fit,
    expect,
    fit_calibrated,
    marks,
)
from eegdm.evaluation.decision import BACKGROUND, RECORDING, Rule, window_table
from eegdm.evaluation.fitting import (
    FittedDecision,
    GridRecording,
    both_kinds,
    decided_about,
    fit_rule,
)
from eegdm.evaluation.study import BAND_POWER, RANDOM
from eegdm.features.classical import BandPower
from eegdm.features.extractors import TOKENS, Extractor, Tokens
from eegdm.features.labels import share
from eegdm.features.making import (
    is_store,
    model_name,
    model_of,
    open_store,
    origin_of,
    store_folder,
    tokens_of,
)
from eegdm.features.store import FeatureStore
from eegdm.features.twins import twin_tokens
from eegdm.inference.embedding import BackboneReader
from eegdm.layout import MODEL_UNITS
from eegdm.models.centring import CENTRES, joint_reference, reference_of
from eegdm.models.eegdm import EEGDM, noise_of
from eegdm.models.latents import TokenSpec

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP

MAX_MARKED_WINDOWS = 1000
"""Windows to learn from: of each label of a person as many as keep all together at this number."""
PAGE = "expectation.html"
FIT = "fit"
"""In a plan: that this command wrote the folder, which the next marks may replace."""


@dataclass(frozen=True)
class Detector:
    """A classifier that was fitted to marks.

    Attributes:
        model: for :func:`eegdm.predict`, and to be saved.
        expectation: scores of heads like its own on people, recordings or marks that they did not
            learn from.
        decision: its rule, fitted on the probabilities of such heads, and what that rule finds in
            the marked recordings.
        path: the folder that it was saved in.
    """

    model: EEGDM
    expectation: Expectation
    decision: FittedDecision
    path: Path | None = None


def fit(
    source: str | Path,
    table: str | Path | None = None,
    out: str | Path | None = None,
    model: SSMDP | EEGDM | str | Path | None = None,
    *,
    background: str | None = None,
    events: Sequence[str] | None = None,
    centre: str | None = None,
    compare: bool = True,
    **options: Any,
) -> Detector:
    """Fit a linear head to a model's tokens of marked windows, and the rule that makes events of
    its probabilities.

    Every recording below ``source`` goes through the model once; that takes the time. With the
    tokens stored, heads take seconds. A window has the label that covers at least half of it.

    What to expect is said beside heads that are chosen in the same way on log band power, and on
    tokens of the same network with random weights; the recordings with marks go through that one
    too. A page in the folder, `expectation.html`, shows it all.

    Args:
        source: a folder with recordings at any depth, or one that `eegdm embed` wrote of them.
        table: marks: CSV, TSV or Parquet with the columns file, onset_s, duration_s and label, or
            file and label; a column subject says whose a recording is. Needed with recordings.
        out: the folder to save the classifier in; one that was fitted before is replaced. Without
            it, nothing is saved.
        model: a backbone or a classifier, or its folder, checkpoint or hub id; the packaged
            ``mini`` by default, or the model that made the features in ``source``.
        background: what windows of marked recordings are called that no mark touches. Without it
            nothing is learned from them.
        events: the labels that are events; by default all but the background.
        centre: divide tokens by what is usual in their "recording", or in all marked recordings of
            the "subject", see :mod:`eegdm.models.centring`; None: not at all.
        compare: whether to compare with band power and random weights.
        options: those of :func:`eegdm.embed_folder`, such as channels, missing, notch, step_s,
            device or workers.

    Raises:
        UserError: as :func:`eegdm.embed_folder`; the marks meet no window, have one label, lie in
            one recording or stand alone, or centring would remove the labels; recordings lie at
            their own rates or were notched by their own hum.
    """
    source = Path(source)
    if centre not in (None, *CENTRES):
        raise UserError(f"centre={centre!r} is unknown; choose from {', '.join(CENTRES)}")
    if table is not None and not is_store(source):
        _refuse_table(source, table, background)
    given, model = model, model_of(source) if model is None else model
    beside = _beside(source, model, options.get("device", "auto")) if compare else {}
    store = open_tokens(source, table, given, options, list(beside.values()))
    begun = time.monotonic()
    reader = backbone_of(store, model)
    marked = _marked(store, background)
    _say_marks(marked, model)
    if centre is not None:
        groups = marked.windows.group["recordings" if centre == "recording" else "people"]
        learned = marked.windows.learn
        refuse_removed_labels(centre, groups[learned], marked.windows.label[learned])
    read = marked.read(len(reader.spec.query), centre)
    fitted, found = fit_calibrated(marked.windows, read)
    every = {model_name(model): found}
    for name, extractor in beside.items():
        n_queries = len(reader.spec.query) if isinstance(extractor, Tokens) else 1
        every[name] = cross_fit(marked.windows, marked.read(n_queries, centre, extractor.name))
    decision = _decide(marked, found.decisions, background, events)
    unit = RECORDINGS if decision.rule.decide == RECORDING else WINDOWS
    expectation = expect(marked.windows, every, unit)
    classifier = _as_classifier(reader, marked, fitted, decision, centre)
    _say_expectation(fitted, found, expectation, decision)
    detector = Detector(classifier, expectation, decision, None if out is None else Path(out))
    if detector.path is not None:
        _save(detector, store, marked, fitted, background)
    where = "" if out is None else f"; wrote {out}"
    say(f"fit: {time.monotonic() - begun:.1f} s with the tokens stored{where}")
    return detector


# ------------------------------------------------------------------------------------------ tokens


def _beside(source: Path, model: Any, device: str) -> dict[str, Extractor]:
    """What makes the features that the model's tokens are compared with, by the names that a reader
    sees.
    """
    if is_store(source) and not origin_of(source).source.is_dir():
        say(
            "fit: the recordings are not where they were, so nothing is compared with band power"
            " and random weights"
        )
        return {}
    return {BAND_POWER: BandPower(), RANDOM: twin_tokens(model, 0, device)}


def open_tokens(
    source: Path,
    table: Any,
    model: Any,
    options: dict[str, Any],
    of_labelled: Sequence[Extractor] = (),
) -> FeatureStore:
    """Return the tokens of all recordings, made where they are missing; and other features of the
    recordings that have labels.

    Raises:
        UserError: as :func:`eegdm.features.open_store`; recordings would be notched by their own
            hum.
    """
    if options.get("notch") == "auto":
        raise UserError(
            "notch=auto: a detector has one notch filter for all recordings; give its frequencies"
        )
    if is_store(source):
        return open_store(source, (), of_labelled, table=table, model=model, **options)
    folder = store_folder(source, "mini" if model is None else model, options)
    return open_store(source, (), of_labelled, table=table, model=model, out=folder, **options)


def backbone_of(store: FeatureStore, model: Any) -> BackboneReader:
    """Return the backbone whose tokens these are.

    Raises:
        UserError: they are not, or a linear head can't take them.
    """
    tokens = tokens_of(store, model)
    options = origin_of(store.path).options
    if options.rate != "resample" or options.notch == "auto":
        said = "rate=native" if options.rate != "resample" else "notch=auto"
        raise UserError(
            f"{store.path}: was made with {said}, which differs between recordings; make it again"
            " with one rate and one notch filter"
        )
    reader = tokens.reader
    if set(reader.spec.pool) != {"std"}:
        raise UserError(
            f"model={model}: has tokens of pool {', '.join(reader.spec.pool)}; fit takes the log of"
            " tokens, which have to be standard deviations (pool std)"
        )
    notch = options.notch
    signal = asdict(reader.signal_config)
    signal["notch"] = list(signal["notch"] if notch is None else notch)
    return replace(reader, signal=signal)


# ------------------------------------------------------------------------------------------- marks


@dataclass(frozen=True)
class MarkedStore:
    """The windows of marked recordings, and their tokens.

    Attributes:
        store: with the tables of marked recordings alone.
        windows: labels and groups, a row per window of the store.
        ch_names: the channels that all of them have.
    """

    store: FeatureStore
    windows: Marked
    ch_names: list[str]

    def read(self, n_queries: int, centre: str | None = None, array: str = TOKENS) -> ReadRows:
        """Return what reads the tokens of windows; centred, if asked.

        Band power is read as tokens of a single block, which are amplitudes.
        """
        rows = self.store.recordings.itertuples()
        places = {r.recording: [list(r.ch_names).index(c) for c in self.ch_names] for r in rows}

        def of(name: str, window: Int[np.ndarray, " window"]) -> StoredTokens:
            values = self.store.array(array, name)[window][:, places[name]]
            if array == BandPower.name:
                values = 10 ** (values[:, :, None] / 2)
            split = values.reshape(*values.shape[:3], n_queries, -1)
            return torch.from_numpy(np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4)))

        references = {} if centre is None else self._references(of, centre)

        def read(rows: Int[np.ndarray, " row"]) -> StoredTokens:
            table = self.store.windows.iloc[rows]
            parts, order = [], []
            for name, own in table.groupby("recording", sort=False).indices.items():
                tokens = of(str(name), table.window.to_numpy()[own])
                parts.append(tokens / references[str(name)] if references else tokens)
                order.append(own)
            return torch.cat(parts)[np.argsort(np.concatenate(order))]

        return read

    def _references(
        self, of: Callable[[str, Int[np.ndarray, " window"]], StoredTokens], centre: str
    ) -> dict[str, Float[torch.Tensor, "block query channel feature"]]:
        """What the tokens of each recording are centred by: of the stored windows those nearest to
        the ones that `predict` takes, which are the same if the step divides a window.
        """
        own: dict[str, Any] = {}
        n_windows: dict[str, int] = {}
        for r in self.store.recordings.itertuples():
            windows = self.store.windows[self.store.windows.recording == r.recording]
            wanted = WindowGrid.reference(r.n_times, r.sfreq, float(windows.duration_s.iloc[0]))
            away = np.abs(windows.onset_s.to_numpy()[:, None] - wanted.onset_s)
            chosen = np.unique(away.argmin(axis=0))
            try:
                own[r.recording] = reference_of(of(r.recording, windows.window.to_numpy()[chosen]))
            except UserError as error:
                raise UserError(f"{r.recording}: {error}") from error
            n_windows[r.recording] = len(chosen)
        found: dict[str, torch.Tensor] = {}
        for _, names in self.store.recordings.groupby(centre).recording:
            counts = torch.tensor([[float(n_windows[name])] for name in names])
            joint = joint_reference(
                torch.stack([own[name] for name in names]), counts.expand(-1, len(self.ch_names))
            )
            found |= dict.fromkeys(names, joint)
        return found

    @property
    def taken_for(self) -> tuple[str, ...] | None:
        """For each channel the one of TCP that it is taken for; None if it is that one."""
        taken: dict[str, str] = {}
        for row in self.store.recordings.itertuples():
            taken |= dict(zip(row.ch_names, row.taken_for, strict=True))
        found = tuple(taken[name] for name in self.ch_names)
        return None if found == tuple(self.ch_names) else found


def _marked(store: FeatureStore, background: str | None) -> MarkedStore:
    """Choose the windows that have a label, and say whose they are.

    Raises:
        UserError: there is nothing to learn from.
    """
    if "label" not in store.windows:
        raise UserError("table=None: a table of marks is needed; name one")
    events = store.events
    say_open_rows("fit", events)
    labelled = events[events.label != ""]
    recordings = store.recordings[
        store.recordings.recording.isin(labelled.recording) & (store.recordings.status == "ok")
    ]
    table = store.windows[store.windows.recording.isin(recordings.recording)]
    own = replace(store, recordings=recordings, windows=table.reset_index(drop=True))
    label = labels_of(own)
    if background is not None:
        label[label.isna() & ~touched(own.windows, events)] = background
    _refuse_too_little(store, own.windows, label, labelled, background)
    return as_marked(own, label, background)


def say_open_rows(command: str, events: pd.DataFrame) -> None:
    """Say how many rows of a table nobody has filled in yet."""
    if n := int((events.label == "").sum()):
        rows = "1 row of the table has" if n == 1 else f"{n} rows of the table have"
        say(f"{command}: {rows} no label yet, so nothing is learned there")


def labels_of(store: FeatureStore) -> pd.Series:
    """Return the label of each window; None where it has none."""
    if "label" not in store.windows:
        return pd.Series(None, index=store.windows.index, dtype=object)
    label = store.windows.label
    return label.astype(object).where(label.notna(), None)


def as_marked(store: FeatureStore, label: pd.Series, background: str | None = None) -> MarkedStore:
    """Number the labels of windows, the background first, and say whose the windows are."""
    table, recordings = store.windows, store.recordings
    names = sorted(set(label.dropna()))
    is_background = {name: name == background or name.lower() in BACKGROUND for name in names}
    classes = sorted(names, key=lambda name: not is_background[name])
    number = label.map({name: k for k, name in enumerate(classes)}).fillna(-1).to_numpy(int)
    subject = table.recording.map(recordings.set_index("recording").subject)
    _, person = np.unique(subject.to_numpy(str), return_inverse=True)
    _, recording = np.unique(table.recording.to_numpy(str), return_inverse=True)
    group = {"people": person, "recordings": recording, "marks": marks(number, recording)}
    learn = _to_learn_from(number, person)
    return MarkedStore(store, Marked(number, learn, group, classes), store.common_channels())


def touched(windows: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    """Return whether a row of the table overlaps a window."""
    found = pd.Series(False, index=windows.index)
    for name, own in windows.groupby("recording", sort=False):
        for event in events[events.recording == name].itertuples():
            starts_before = own.onset_s < event.onset_s + event.duration_s
            found[own.index] |= starts_before & (own.onset_s + own.duration_s > event.onset_s)
    return found


def _to_learn_from(
    label: Int[np.ndarray, " window"], person: Int[np.ndarray, " window"]
) -> np.ndarray:
    """Of each label of a person the same number, spread evenly, where there are that many."""
    table = pd.DataFrame({"label": label, "person": person})
    groups = list(table[table.label >= 0].groupby(["person", "label"]).groups.values())
    learn = np.zeros(len(table), bool)
    if not groups:
        return learn
    most = share([len(own) for own in groups], MAX_MARKED_WINDOWS)
    for own in groups:
        learn[own.to_numpy()[evenly(len(own), most)]] = True
    return learn


def _refuse_table(source: Path, table: str | Path, background: str | None) -> None:
    """Refuse what can't work before recordings are read."""
    corpus = CorpusConfig(name="folder", source=str(source), events="table", table=str(table))
    rows = read_event_table(table_path(corpus), source)
    rows = rows[rows.label != ""]
    if not rows.empty:
        _refuse_one(sorted({*rows.label, *([background] if background else [])}), background)
        _refuse_one_recording(rows.file.unique())


def _refuse_one(labels: Sequence[str], background: str | None) -> None:
    if len(labels) < 2:
        advice = (
            "; mark another label too, or say what the rest of the marked recordings is with"
            " background=NAME"
            if background is None
            else "; nothing of the marked recordings is left for another"
        )
        raise UserError(f"all marks are {labels[0]!r}, and two labels or more are needed{advice}")


def _refuse_one_recording(holding: Sequence[str]) -> None:
    if len(holding) < 2:
        raise UserError(
            f"all marks are in one recording ({holding[0]}); mark a second one, for what a head"
            " has learned of one recording can't be tested on another"
        )


def _refuse_too_little(
    store: FeatureStore,
    windows: pd.DataFrame,
    label: pd.Series,
    events: pd.DataFrame,
    background: str | None,
) -> None:
    found = sorted(set(label.dropna()))
    marked = set(windows.label.dropna())
    if not marked:
        window_s = float(store.windows.duration_s.iloc[0])
        raise UserError(
            f"the table's {len(events)} marks meet no window: none covers half of a window of"
            f" {window_s:g} s; mark longer stretches"
        )
    for name in sorted(set(events.label) - marked):
        say(f"fit: no mark of {name!r} covers half of a window, so it is left out")
    _refuse_one(found, background)
    _refuse_one_recording(windows.recording[windows.label.notna()].unique())


# ---------------------------------------------------------------------------------------- decision


def _decide(
    marked: MarkedStore,
    logits: Float[np.ndarray, "window class"],
    background: str | None,
    events: Sequence[str] | None,
) -> FittedDecision:
    """Fit the rule on probabilities by heads that did not learn from the windows."""
    windows, store = marked.windows, marked.store
    step_s = _step_s(store)
    others = {background, *(c for c in windows.classes if c.lower() in BACKGROUND)}
    rule = Rule(
        tuple(windows.classes),
        tuple(events or (c for c in windows.classes if c not in others)),
        min_duration_s=step_s,
        smoothing_s=step_s,
        resolution_s=step_s,
        decide=_decided_about(marked),
    )
    is_event = np.isin(windows.label, [rule.classes.index(name) for name in rule.event_classes])
    own_events = store.events[store.events.label.isin(rule.event_classes)]
    on_grid = []
    for r in store.recordings.itertuples():
        rows = np.flatnonzero(store.windows.recording == r.recording)
        known = background is not None or bool((windows.label[rows] >= 0).all())
        if known and np.isfinite(logits[rows]).all():
            starts = (store.windows.onset_s.to_numpy()[rows] * r.sfreq).round().astype(int)
            n_times = round(float(store.windows.duration_s.iloc[0]) * r.sfreq)
            grid = window_table(WindowGrid(starts, n_times, r.sfreq), logits[rows], rule)
            annotated = own_events[own_events.recording == r.recording]
            on_grid.append(GridRecording(grid, is_event[rows], annotated, r.duration_s))
    learn = windows.learn
    return fit_rule(
        rule,
        logits[learn],
        windows.label[learn],
        both_kinds(on_grid),
        store.events,
        store.recordings,
    )


def _decided_about(marked: MarkedStore) -> str:
    """What the labels of windows are of."""
    samples = marked.store.windows[["recording"]].assign(label=marked.windows.label)
    labelled = samples[samples.label >= 0]
    return decided_about(labelled, marked.store.events, marked.store.recordings)


def _step_s(store: FeatureStore) -> float:
    """Seconds from one window to the next, which is what a window speaks for."""
    steps = store.windows.groupby("recording").onset_s.diff().dropna()
    duration_s = float(store.windows.duration_s.iloc[0])
    return duration_s if steps.empty else min(float(steps.median()), duration_s)


# ------------------------------------------------------------------------------------------- model


def _as_classifier(
    reader: BackboneReader,
    marked: MarkedStore,
    fitted: Fitted,
    decision: FittedDecision,
    centre: str | None,
) -> EEGDM:
    """Put backbone, head and rule together."""
    sfreq = float(reader.signal_config.sfreq)
    blocks = reader.blocks
    spec = TokenSpec.from_dict(
        {
            **reader.spec.to_dict(),
            **(noise_of(reader.backbone) if reader.spec.forward == "none" else {}),
            "first_block": blocks[len(blocks) // 2] if fitted.readout.deep else blocks[0],
        }
    )
    made = EEGDM(
        reader.backbone,
        fitted.head,
        spec,
        marked.ch_names,
        marked.windows.classes,
        sfreq,
        round(reader.window_s * sfreq),
        reader.signal,
        decision.settings,
        reader.compat,
        marked.taken_for,
        centre,
    )
    return made.eval()


def _save(
    detector: Detector,
    store: FeatureStore,
    marked: MarkedStore,
    fitted: Fitted,
    background: str | None,
) -> None:
    from eegdm.features.detector_page import write_expectation

    folder, model, expectation = detector.path, detector.model, detector.expectation
    assert folder is not None
    window_s = model.n_times / model.sfreq
    plan = {
        "windows": {
            "policy": "grid",
            "duration_s": window_s,
            "step_s": detector.decision.rule.resolution_s,
            "min_overlap_s": window_s / 2,
            "background": background,
        },
        "latents": {"cached": False, "forward": model.spec.forward},
        "signal": {name: model.signal[name] for _, name in (u.split(".") for u in MODEL_UNITS)},
        "compat": model.compat,
        FIT: {"events": list(detector.decision.rule.event_classes), "centre": model.centre},
    }
    recordings = marked.store.recordings
    facts = {
        "data": {
            "recordings": len(recordings),
            "people": int(recordings.subject.nunique()),
            "windows": {
                name: int((marked.windows.label[marked.windows.learn] == k).sum())
                for k, name in enumerate(marked.windows.classes)
            },
        },
        "recipe": {
            "name": "eegdm fit",
            "blocks": "the deeper half" if fitted.readout.deep else "all",
            "channels": "each" if fitted.readout.per_channel else "their mean",
            "penalty": fitted.penalty,
            "chosen over": f"{fitted.chosen_over} left out",
            **({} if model.centre is None else {"centred": f"per {model.centre}"}),
        },
        "metrics": {
            "cross-validated": expectation.sentence(),
            **({"beside": expectation.comparisons()} if len(expectation.differences) else {}),
            "recall": expectation.recall,
        },
        "licence": (
            "The licences of the recordings and of the backbone decide whether these weights may be"
            " redistributed."
        ),
    }
    inputs = {"embeddings": store.artifact.fingerprint}
    with (
        artifacts.storage_faults(folder, "--out"),
        artifacts.building(folder, "classifier", plan, inputs, replace=_is_fitted(folder)),
    ):
        artifacts.reopen(folder)
        model.save_pretrained(folder, info=facts)
        write_expectation(folder / PAGE, expectation, decision_words(detector.decision), facts)
        counts = detector.decision.counts
        summary = {
            "classes": list(model.classes),
            "expected": expectation.sentence(),
            "events": counts._asdict() if counts else None,
        }
        artifacts.finish(folder, summary)


def _is_fitted(folder: Path) -> bool:
    """Whether a folder holds what this command wrote before, of other marks perhaps."""
    plan = folder / artifacts.PLAN
    return plan.is_file() and FIT in artifacts.read_json(plan).get("config", {})


# ------------------------------------------------------------------------------------ what is said


def _say_marks(marked: MarkedStore, model: Any) -> None:
    windows, recordings = marked.windows, marked.store.recordings
    counts = ", ".join(
        f"{name} {int((windows.label[windows.learn] == k).sum())}"
        for k, name in enumerate(windows.classes)
    )
    n = int(recordings.subject.nunique())
    name = Path(model).name if isinstance(model, str | Path) else type(model).__name__
    say(
        f"fit: {int(windows.learn.sum())} windows to learn from ({counts}) of {n}"
        f" {'person' if n == 1 else 'people'}, {len(recordings)} recordings,"
        f" {len(marked.ch_names)} channels; tokens of {name}"
    )


def _say_expectation(
    fitted: Fitted, found: CrossFitted, expectation: Expectation, decision: FittedDecision
) -> None:
    where = "each channel" if fitted.readout.per_channel else "the mean over channels"
    blocks = "the deeper half of the blocks" if fitted.readout.deep else "all blocks"
    say(
        f"fit: head on {blocks}, {where}; penalty {fitted.penalty:g}, chosen on"
        f" {fitted.chosen_over} left out"
    )
    if found.level != "people":
        say(
            f"fit: too few people hold every label, so {found.level} are left out in turn; of new"
            " people expect less"
        )
    say(f"fit: {expectation.sentence()}")
    for sentence in expectation.comparisons():
        say(f"fit: {sentence}")
    say(f"fit: {decision_words(decision)}")


def decision_words(decision: FittedDecision) -> str:
    """Return what the rule does with the marked recordings."""
    return decision.sentence("marked recordings")
