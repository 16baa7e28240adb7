"""A classifier and samples -> logits; logits of validation samples -> the rule by which they become
events.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from eegdm.config import Config
from eegdm.data.batches import batch_sampler_of, in_order, loader
from eegdm.data.recordings import Recordings
from eegdm.data.windows import KEY, WindowGrid
from eegdm.evaluation.decision import Rule, find_events, window_table
from eegdm.evaluation.event_scores import EventCounts, count_events, event_scores
from eegdm.evaluation.metrics import class_probabilities, fit_event_threshold, fit_temperature
from eegdm.executor import results
from eegdm.models.eegdm import EEGDM
from eegdm.opening import LabelledData, make_dataset, shared_windows
from eegdm.processes import own_device, pick_device

MOST_WINDOWS = 6  # what the shortest event may be at most
SMOOTHING = 3  # neighbouring windows whose probabilities `eegdm predict` averages


def score_samples(
    config: Config, data: LabelledData, model: EEGDM, samples: pd.DataFrame, processes: int = 1
) -> pd.DataFrame:
    """Return the samples with a column of logits per class; each distinct window is computed once,
    by one of so many processes.
    """
    windows, window_of = shared_windows(samples)
    if processes == 1:
        found = _logits(config, data, model, windows, pick_device(config.run.device))
    else:
        work = functools.partial(
            _share,
            config=config,
            data=data,
            model=model.cpu(),
            windows=windows,
            processes=processes,
        )
        found = [part for share in results(work, range(processes), processes) for part in share]
    logits = in_order(found)[window_of]
    subjects = dict(
        zip(data.recordings.table.recording, data.recordings.table.subject, strict=True)
    )
    columns = {f"logit_{name}": logits[:, i] for i, name in enumerate(model.classes)}
    return samples.assign(subject=samples.recording.map(subjects), **columns)


@torch.inference_mode()
def _logits(
    config: Config,
    data: LabelledData,
    model: EEGDM,
    windows: pd.DataFrame,
    where: torch.device,
    rank: int = 0,
    world: int = 1,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and logits (row, class) of this process's share of each batch of windows."""
    model = model.to(where).eval()
    batches = loader(
        make_dataset(config, data, windows),
        config.finetune.batch_size,
        None,
        config.run.workers,
        rank,
        world,
    )
    found = []
    for number, batch in enumerate(batches):
        if batch_sampler_of(batches).weight(number) > 0:  # no window is scored twice
            values, mask = batch.data.to(where), batch.mask.to(where)
            noise = batch.noise.to(where) if batch.noise.numel() else None
            logits = (
                model.logits_from_tokens(values, mask)
                if data.store is not None
                else model(values, mask, data.recordings.sfreq, noise)
            )
            found.append((batch.row.numpy(), logits.float().cpu().numpy()))
    return found


def _share(
    rank: int,
    config: Config,
    data: LabelledData,
    model: EEGDM,
    windows: pd.DataFrame,
    processes: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    return _logits(
        config, data, model, windows, own_device(config.run.device, processes), rank, processes
    )


def logits_from_table(predictions: pd.DataFrame) -> np.ndarray:
    """Return the logits (sample, class) of a table of predictions."""
    return predictions.filter(regex="^logit_").to_numpy(np.float32)


def fit_decision(config: Config, val: pd.DataFrame, recordings: Recordings) -> dict[str, Any]:
    """Return how logits become events: temperature, threshold and shortest event fitted on the
    validation samples.

    The shortest event is a window's stretch where windows do not cover their recordings, or several
    classes are events.
    """
    classes, events = list(config.corpus.classes), list(config.corpus.event_classes)
    decision: dict[str, Any] = {
        "classes": classes,
        "event_classes": events,
        "threshold": 0.5,
        "smoothing_s": SMOOTHING * _resolution(config),
        "resolution_s": _resolution(config),
        "min_duration_s": _resolution(config),
    }
    if len(val) == 0 or val.label.nunique() < 2:
        return decision
    decision["temperature"] = float(fit_temperature(logits_from_table(val), val.label.to_numpy()))
    probability = class_probabilities(logits_from_table(val), decision["temperature"])
    is_event = np.isin(np.array(classes)[val.label.to_numpy()], events)
    of_event = probability[:, [classes.index(e) for e in events]].sum(1)
    if is_event.any() and not is_event.all():
        decision["threshold"] = float(fit_event_threshold(is_event.astype(int), of_event))
        if config.windows.policy != "event" and len(events) == 1:
            decision["min_duration_s"] = _shortest_event(config, val, recordings, decision)
    return decision


def _shortest_event(
    config: Config, val: pd.DataFrame, recordings: Recordings, decision: dict[str, Any]
) -> float:
    """Return the shortest event, in whole windows, with the best F1 over events of the validation
    recordings; of equals the shortest.
    """
    rule = Rule(
        **(
            decision
            | {
                "classes": tuple(decision["classes"]),
                "event_classes": tuple(decision["event_classes"]),
            }
        )
    )
    truth = recordings.events[recordings.events.label.isin(rule.event_classes)]
    tables = list(event_windows(config, val, recordings, rule))

    def f1(min_duration_s: float) -> float:
        chosen = replace(rule, min_duration_s=min_duration_s)
        counts = [
            count_events(
                truth[truth.recording == row.recording],
                find_events(table, chosen),
                row.n_times / row.sfreq,
            )
            for row, table in tables
        ]
        return event_scores(EventCounts.total(counts))["f1"] or 0.0

    return max(
        (n * rule.resolution_s for n in range(1, MOST_WINDOWS + 1)), key=f1
    )  # the first of equals


def event_windows(
    config: Config, samples: pd.DataFrame, recordings: Recordings, rule: Rule
) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield each recording's row and the windows of its grid with their probabilities, without
    extra windows along seizures.
    """
    step_s = config.windows.step_s or config.windows.duration_s
    rows = {row.recording: row for row in recordings.table.itertuples()}
    for name, own in samples.groupby("recording"):
        row: Any = rows[name]
        grid = (
            own[own.start_sample % round(step_s * row.sfreq) == 0]
            .drop_duplicates(KEY)
            .sort_values("start_sample")
        )
        windows = WindowGrid.cover(int(row.n_times), row.sfreq, config.windows.duration_s, step_s)
        yield (
            row,
            window_table(
                windows._replace(starts=grid.start_sample.to_numpy()), logits_from_table(grid), rule
            ),
        )


def _resolution(config: Config) -> float:
    """Seconds that a window speaks for: the event in its middle (1 s, as TUEV's are), or all of a
    grid's window.
    """
    return (
        min(1.0, config.windows.duration_s)
        if config.windows.policy == "event"
        else config.windows.duration_s
    )
