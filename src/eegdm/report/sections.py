"""What the report says, section by section: from its numbers to text, tables and pictures, whatever
the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from eegdm.evaluation.generation_quality import DISTANCE_SENTENCES
from eegdm.evaluation.metrics import summarise
from eegdm.report import charts, traces
from eegdm.report.charts import SCORE_NAMES
from eegdm.report.pages import Element, Picture, Points, Section, Table, Text
from eegdm.report.tables import Numbers

if TYPE_CHECKING:
    from eegdm.evaluation.results import RunResult
    from eegdm.report.content import Report


_MEANINGS = {
    "kappa": (
        "agreement with the annotations beyond what guessing with the same class frequencies would"
        " reach. 100: always right, 0: no better than guessing, below 0: worse."
    ),
    "balanced_accuracy": (
        "the share of windows found, averaged over the classes: a rare class counts as much as a "
        "common one. Guessing reaches {guess}."
    ),
    "weighted_f1": (
        "F1 (the harmonic mean of recall and precision) of each class, weighted by how many windows"
        " it has: common classes dominate."
    ),
    "auc_pr": (
        "average precision: how pure the windows called an event are, over all thresholds. Guessing"
        " reaches the share of event windows, {events} here."
    ),
    "auroc": (
        "how often a window of class {positive} gets a higher probability of it than one of the"
        " other class. Guessing reaches 50.00; where the class is rare, it stays high in spite of"
        " many false alarms."
    ),
}
_MOST_EVENTS = 40  # predicted events in the table; all of them are in report.json


def sections(report: Report, numbers: Numbers) -> list[Section]:
    """Return the sections in reading order; one that has nothing to show is left out."""
    parts = {
        "Summary": _summary(report, numbers),
        "Recordings and people": _units(report, numbers),
        "Confusion": _confusion(report),
        "Per class": _per_class(report),
        "Events": _events(report),
        "Calibration": _calibration_section(report, numbers),
        "Training": _training(report),
        "Generated EEG": _generated(report, numbers),
        "A recording with its predicted events": _example(report),
        "Data": _data(report),
        "Settings and provenance": _settings(numbers),
        "Limits": _limits(),
    }
    filled = {title: list(elements) for title, elements in parts.items()}
    return [Section(title, elements) for title, elements in filled.items() if elements]


# ---------------------------------------------------------------------------------------- summary


def _summary(report: Report, numbers: Numbers) -> Iterator[Element]:
    yield Text(
        f"A classifier of EEG windows, trained with recipe {report.recipe} on the corpus"
        f" {report.corpus}. Windows: {_sizes(report, numbers)}. {report.split}"
    )
    yield from map(Text, report.notes)
    yield Text(verdict(report, numbers))
    if report.pooled:
        yield _pooled(report, numbers)
    yield headline(report, numbers)
    yield from _few_people(numbers)
    yield Points([(SCORE_NAMES[name], meaning(name, numbers)) for name in report.headline])
    if report.baselines:
        yield Text(f"What it is compared with, on the same test windows. {report.rules}".strip())
        yield Points([(name, baseline.sentence) for name, baseline in report.baselines.items()])
    if len(report.left_out):
        yield _frame(
            report.left_out,
            "Finished classifiers in the same folder that this report is not about, since they were"
            " made with other settings or were not asked for.",
        )


def _few_people(numbers: Numbers) -> Iterator[Text]:
    """Say what intervals over recordings leave out, where there are such."""
    every = [*numbers["runs"], *numbers["pooled"]]
    people = [run["n_subjects"] for run in every if run["interval_unit"] == "recordings"]
    if people:
        many = _range(people, "test subject")
        yield Text(
            f"Where there are only {many}, intervals are over recordings. Recordings of one person"
            " are not independent: these intervals are too narrow, and do not say how scores vary"
            " between people."
        )


def _range(counts: Sequence[int], thing: str) -> str:
    """The counts as `4 subjects` or `4 to 6 subjects`."""
    low, high = min(counts), max(counts)
    return _many(low, thing) if low == high else f"{low} to {high} {thing}s"


def _detailed_runs(numbers: Numbers) -> list[Numbers]:
    """The runs to show in detail: of all folds together where there are such."""
    return numbers["pooled"] or numbers["runs"]


def _sizes(report: Report, numbers: Numbers) -> str:
    """How many windows of whom; over all folds together where there are several."""
    rows = numbers["counts"]
    if not any("of" in row for row in rows):
        return ", ".join(_split_size(row) for row in rows if row["windows"])
    first = [run for run in report.runs if run.seed == report.runs[0].seed]
    row = {
        "windows": sum(len(run.label) for run in first),
        "split": f"test in {_many(len(first), 'fold')}" if report.n_folds else "test",
        "recordings": len({name for run in first for name in run.recording}),
        "subjects": len({name for run in first for name in run.subject}),
    }
    return _split_size(row) if report.n_folds else ", ".join(_split_size(r) for r in rows[-1:])


def _split_size(row: dict[str, Any]) -> str:
    where = f"{_many(row['recordings'], 'recording')} of {_many(row['subjects'], 'subject')}"
    return f"{row['windows']} {row['split']} ({where})"


def _many(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def verdict(report: Report, numbers: Numbers) -> str:
    """One sentence: ours beside the best baseline, and whether the difference could be chance."""
    name = report.headline[0]
    ours = _mean_of_shown(report, numbers)[name]["mean"]
    others = {k: _mean_scores(b, report)[name]["mean"] for k, b in numbers["baselines"].items()}
    others = {k: v for k, v in others.items() if v is not None}
    where = " of all folds together" if report.pooled else ""
    what = f"{SCORE_NAMES[name]} (x100) of EEGDM on the test windows{where} is {_number(ours)}"
    if ours is None or not others:
        return _capitalised(f"{what}.")
    best = max(others, key=others.__getitem__)
    beside = f"{what}, that of the best baseline ({best}) {_number(others[best])}"
    lows = [run["intervals"][name]["low"] for run in _detailed_runs(numbers)]
    if others[best] >= ours:
        return _capitalised(f"{beside}: on these data the baseline does as well or better.")
    if None in lows or 100 * min(lows) <= others[best]:
        unit = _detailed_runs(numbers)[0]["interval_unit"]
        return _capitalised(f"{beside}: the difference is within what other {unit} could change.")
    return _capitalised(
        f"{beside}: the 95 % interval of {'every run' if len(lows) > 1 else 'the run'} lies"
        " above it."
    )


def _mean_of_shown(report: Report, numbers: Numbers) -> Numbers:
    return summarise([run.scores for run in report.pooled]) if report.pooled else numbers["summary"]


def _mean_scores(baseline: Numbers, report: Report) -> Numbers:
    """The mean scores of a baseline to hold beside ours; of all folds together if ours are."""
    summary = baseline["pooled"] if report.pooled else baseline["summary"]
    nothing = {"mean": None, "std": None}
    return {name: (summary or {}).get(name, nothing) for name in report.headline}


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def headline(report: Report, numbers: Numbers) -> Table:
    """Our scores, those of each run, and those of the baselines: a line for the mean of each."""
    names = report.headline
    several = len(report.runs) > 1
    rows = []
    if several:
        cells = [_spread_words(numbers["summary"][n]) for n in names]
        rows.append([f"EEGDM, mean of {len(report.runs)} runs", *cells])
    for run in numbers["runs"]:
        label = run["name"] if several else f"EEGDM, {run['name']}"
        rows.append([label, *(_percent_with_interval(run["intervals"][n]) for n in names)])
    n_ours = len(rows)
    for name, baseline in numbers["baselines"].items():
        rows.append(_baseline_row(name, baseline, names))
    caption = (
        "Scores on the test windows, x100. [low, high]: 95 % interval by bootstrap over"
        f" {_units_drawn(numbers['runs'])}"
    )
    caption += "; ±: population standard deviation over runs." if several else "."
    return Table(["", *(SCORE_NAMES[n] for n in names)], rows, caption, frozenset(range(n_ours)))


def _baseline_row(name: str, baseline: Numbers, names: Sequence[str]) -> list[str]:
    if baseline["missing"] is not None:
        return [name, f"not computed: {baseline['missing']}", *[""] * (len(names) - 1)]
    n, nothing = len(baseline["scores"]), {"mean": None, "std": None}
    summaries = [baseline["summary"].get(score, nothing) for score in names]
    label = f"{name}, mean of {n}" if n > 1 else name
    return [label, *(_spread_words(s) if n > 1 else _number(s["mean"]) for s in summaries)]


def _pooled(report: Report, numbers: Numbers) -> Table:
    """Scores of all folds together: each window once, by the model that did not learn from it."""
    names = report.headline
    rows = [
        [f"EEGDM, {run['name']}", *(_percent_with_interval(run["intervals"][n]) for n in names)]
        for run in numbers["pooled"]
    ]
    n_ours = len(rows)
    for name, baseline in numbers["baselines"].items():
        if baseline["pooled"] is not None:
            summaries = [_mean_scores(baseline, report)[n] for n in names]
            spread = len(baseline["scores"]) > (report.n_folds or 1)
            rows.append(
                [name, *(_spread_words(s) if spread else _number(s["mean"]) for s in summaries)]
            )
    caption = (
        f"All {report.n_folds} folds together, x100: each test window once, predicted by the model"
        " that did not learn from it. [low, high]: 95 % interval by bootstrap over"
        f" {_units_drawn(numbers['pooled'])}."
    )
    return Table(["", *(SCORE_NAMES[n] for n in names)], rows, caption, frozenset(range(n_ours)))


def _units_drawn(runs: Sequence[Numbers]) -> str:
    """What intervals are over, as `4 subjects` or `4 to 6 subjects`."""
    counts: dict[str, list[int]] = {}
    for run in runs:
        counts.setdefault(run["interval_unit"].removesuffix("s"), []).append(run["n_units"])
    return " or ".join(_range(sizes, unit) for unit, sizes in counts.items())


# --------------------------------------------------------------------------- recordings and people


def _units(report: Report, numbers: Numbers) -> Iterator[Element]:
    by_unit = numbers["recordings_and_people"]
    if not by_unit:
        return
    yield Text(
        "Every recording has one label. Below, a recording (or a person) is one sample: the"
        " probabilities of its windows are averaged, and the most probable class is predicted."
        " [low, high]: 95 % interval by bootstrap over people; there is none with few people."
    )
    if by_unit["recording"]:
        within = any(row[0]["ranked_within_people"] for row in by_unit["recording"].values())
        yield _unit_table(report, by_unit["recording"], "recording", within)
    if by_unit["subject"]:
        yield _unit_table(report, by_unit["subject"], "person", within=False)
    else:
        yield Text("People have recordings of several classes, so that they are not scored.")


def _unit_table(report: Report, rows: dict[str, list[Numbers]], unit: str, within: bool) -> Table:
    names = report.headline
    cells = [[name, *_unit_cells(runs, names, within)] for name, runs in rows.items()]
    n = next(iter(rows.values()))[0]["n"]
    caption = f"Scores per {unit}, x100"
    caption += f", over {_many(n, unit)}." if unit == "recording" else f", over {n} people."
    header = ["", *(SCORE_NAMES[name] for name in names)]
    if within:
        header.append(f"{report.classes[1]} ranked higher")
        caption += (
            f" Last column: of the people with recordings of both classes, those in whom the ones"
            f" of {report.classes[1]} have the higher mean probability of it."
        )
    return Table(header, cells, caption, frozenset({0}))


def _unit_cells(runs: list[Numbers], names: Sequence[str], within: bool) -> Iterator[str]:
    for name in names:
        if len(runs) == 1:
            yield _percent_with_interval(runs[0]["intervals"][name])
        else:
            yield _over_runs([run["scores"][name] for run in runs])
    if within:
        pairs = [run["ranked_within_people"] or (0, 0) for run in runs]
        yield ", ".join(f"{higher} of {people}" for higher, people in pairs)


def meaning(name: str, numbers: Numbers) -> str:
    first = _detailed_runs(numbers)[0]["scores"]
    support = [c["support"] for c in first["per_class"]]
    occurring = sum(s > 0 for s in support)
    events = support[1] / first["n"] if len(support) == 2 else 0.0
    text = _MEANINGS[name].format(
        guess=_number(100 / occurring),
        events=_number(100 * events),
        positive=numbers["classes"][-1],
    )
    reason = next(
        (
            r["scores"]["undefined"][name]
            for r in numbers["runs"]
            if name in r["scores"]["undefined"]
        ),
        None,
    )
    return text if reason is None else f"{text} Not defined here: {reason}."


# ------------------------------------------------------------------------------------- the scores


def _confusion(report: Report) -> Iterator[Element]:
    yield Text(
        "Each row is an annotated class and adds up to 100 %: read along it to see what its windows"
        " were taken for. The diagonal is right; below each share stands the number of windows."
    )
    for run in report.shown:
        figure = charts.confusion_matrix(run.scores, report.classes, run.name)
        yield Picture(figure, f"confusion matrix of {run.name}")


def _per_class(report: Report) -> Iterator[Element]:
    figure = charts.class_bars([run.scores for run in report.shown], report.classes)
    several = len(report.shown) > 1
    yield Picture(
        figure,
        "recall, precision and F1 of each class",
        "Recall: of the windows annotated as this class, the share found. Precision: of the windows"
        " predicted as this class, the share that is. F1: their harmonic mean."
        + (
            " Mean over runs; whiskers reach from the lowest to the highest run." if several else ""
        ),
    )
    rows = []
    for index, name in enumerate(report.classes):
        of_runs = [run.scores["per_class"][index] for run in report.shown]
        cells = [_over_runs([c[key] for c in of_runs]) for key in ("recall", "precision", "f1")]
        rows.append([name, str(of_runs[0]["support"]), *cells])
    caption = "x100" + (", mean ± population standard deviation over runs" if several else "")
    yield Table(
        ["class", "windows", "recall", "precision", "F1"],
        rows,
        f"{caption}; – is not defined: the class has no window or was never predicted.",
    )
    if report.binary:
        rates = [
            [run.name, *(_percent(s["sensitivity"]) for s in run.scores["sensitivity_at"])]
            for run in report.shown
        ]
        first = report.shown[0].scores["sensitivity_at"]
        yield Table(
            ["run", *(f"at {100 * s['false_alarm_rate']:g} % false alarms" for s in first)],
            rates,
            "Sensitivity (share of event windows found, x100) when that share of the background"
            " windows may be called an event.",
        )


def _events(report: Report) -> Iterator[Element]:
    if report.no_events:
        yield Text(report.no_events)
    runs = [(run, run.events) for run in report.shown if run.events is not None]
    if not runs:
        return
    first = runs[0][1]
    yield Text(
        "Windows become events by the classifier's own threshold, smoothing and shortest duration,"
        " and are scored as SzCORE does: events less than 90 s apart are one, longer ones are cut"
        " every 5 min; an annotated event is found if anything was marked within 30 s before it to"
        " 60 s after it; what was marked and touches no such stretch is a false alarm. Scores of"
        " each subject over all of its recordings, averaged over"
        f" {_many(first['subjects'], 'subject')}, {first['hours']:.1f} h in all with"
        f" {_many(first['annotated'], 'event')}."
    )
    names = {
        "sensitivity": _percent,
        "precision": _percent,
        "f1": _percent,
        "false_alarms_per_day": _number,
    }
    rows = [
        [
            run.name,
            *(show(events[key]) for key, show in names.items()),
            f"{events['found']} / {events['annotated']}",
            _percent(_recall_of_events(report, run)),
        ]
        for run, events in runs
    ]
    yield Table(
        [
            "run",
            "sensitivity",
            "precision",
            "F1",
            "false alarms per 24 h",
            "events found",
            "event windows found",
        ],
        rows,
        "Events over whole test recordings; sensitivity, precision and F1 x100. Event windows found"
        " (x100): the share of the windows annotated as event that were predicted as one; an event"
        " counts as found by a single one of its windows. – is defined for no subject.",
    )


def _recall_of_events(report: Report, run: RunResult) -> float | None:
    """Recall of the windows of the one class that is an event."""
    return run.scores["per_class"][list(report.classes).index(report.event_classes[0])]["recall"]


def _calibration_section(report: Report, numbers: Numbers) -> Iterator[Element]:
    of = report.classes[1] if report.binary else "the predicted class"
    yield Text(
        "On the dotted line a probability means what it says: of the windows given 70 %, 70 % are"
        " so. Below the line the classifier is too sure, above it not sure enough. Error: the mean"
        " distance from the line (expected calibration error)."
    )
    if any(run.temperature is not None for run in report.shown):
        yield Text(
            "A temperature, fitted on validation windows, divides the logits: it changes"
            " probabilities, not which class is predicted."
        )
    for run in _detailed_runs(numbers):
        curves = {"as trained": run["calibration"]}
        if run["temperature"] is not None:
            curves[f"temperature {run['temperature']:.2f}"] = run["calibration_scaled"]
        yield Picture(
            charts.reliability(curves, of),
            f"reliability curve of {run['name']}",
            run["name"] if len(report.shown) > 1 else "",
        )


def _training(report: Report) -> Iterator[Element]:
    if report.no_backbone:
        yield Text(report.no_backbone)
    if report.pretraining is not None and len(report.pretraining):
        figure = charts.training_curves({"backbone": report.pretraining})
        what = (
            "predict its teacher's tokens from single channels: mean squared error of the"
            " standardised logs"
            if report.has_teacher
            else "denoise single channels: mean squared error of the predicted velocity"
        )
        yield Picture(
            figure,
            "loss of the backbone over epochs",
            f"The backbone learns to {what}, lower is better.",
        )
    curves = {run.name: run.curves for run in report.runs if len(run.curves)}
    if curves:
        yield Picture(
            charts.training_curves(curves),
            "loss, validation scores and learning rate over epochs",
            "The classifier learns from the backbone's tokens. Solid: training windows; dashed:"
            " validation windows. The weights of the epoch with the best validation score are the"
            " ones tested above.",
        )


# ---------------------------------------------------------------------------------------- the EEG


def _generated(report: Report, numbers: Numbers) -> Iterator[Element]:
    if report.generated is None:
        return
    n_real, n_generated = report.generated.real.shape[1], report.generated.generated.shape[1]
    yield Text(
        "The backbone can be run backwards, from noise to EEG. What it generates shows what it has"
        " learned: rhythms, drifts and amplitudes of each channel should be those of real EEG,"
        " while the waves themselves are new. Channels are generated one by one, so waves do not"
        " line up between them as they do in real EEG."
    )
    yield Picture(
        traces.generated_traces(report.generated),
        "one real and one generated window of each channel",
        f"One window of each channel, real and generated, at the same scale. {traces.POLARITY}",
        wide=True,
    )
    yield Picture(
        traces.generated_spectra(report.generated),
        "power spectra of real and generated EEG of each channel",
        f"Power spectra, mean over {n_real} real and {n_generated} generated windows of each"
        " channel; both axes are logarithmic.",
        wide=True,
    )
    if distances := numbers["generated"]:
        yield Table(
            ["distance to real EEG", "generated", "floor"],
            [
                [text, f"{distances['generated'][key]:.3f}", f"{distances['floor'][key]:.3f}"]
                for key, text in DISTANCE_SENTENCES.items()
            ],
            "Mean over channels. Floor: the same distance between two halves of the real windows,"
            " below which nothing can be asked to go.",
        )


def _example(report: Report) -> Iterator[Element]:
    example = report.example
    if example is None:
        return
    yield Text(
        f"Recording {example.recording}, from the test split:"
        f" {_many(len(example.true_events), 'annotation')},"
        f" {_many(len(example.predicted_events), 'predicted event')}."
    )
    figure = traces.recording_events(example, report.classes, report.event_classes)
    yield Picture(
        figure,
        "traces with annotated and predicted events, and class probabilities over the recording",
        "Top: the stretch with most kinds of events. Shaded: annotated, on its channel where that"
        f" is known; dashed lines: start and end of a predicted event. {traces.POLARITY}"
        " Bottom: probability of each class, stacked to 1, background in grey.",
        wide=True,
    )
    events = example.predicted_events
    rows = [
        [
            f"{event.onset_s:.1f}",
            f"{event.duration_s:.1f}",
            str(event.label),
            f"{event.probability:.2f}",
        ]
        for event in events.head(_MOST_EVENTS).itertuples()
    ]
    if rows:
        cut = len(events) > _MOST_EVENTS
        more = f" The first {_MOST_EVENTS} of {len(events)}; all are in report.json." if cut else ""
        yield Table(
            ["onset, s", "duration, s", "label", "probability"], rows, f"Predicted events.{more}"
        )


# --------------------------------------------------------------------------------------- the rest


def _data(report: Report) -> Iterator[Element]:
    yield _frame(report.counts, "Windows of each class in each split.")
    if len(report.failures):
        many = f"{_many(len(report.failures), 'recording')} could not be used:"
        yield _frame(report.failures[["recording", "reason"]], many)
    else:
        yield Text("All recordings could be used.")


def _frame(table: pd.DataFrame, caption: str) -> Table:
    rows = [
        ["" if pd.isna(cell) else str(cell) for cell in row]
        for row in table.itertuples(index=False)
    ]
    return Table([str(c) for c in table.columns], rows, caption)


def _settings(numbers: Numbers) -> Iterator[Element]:
    for caption, values in (
        ("Provenance", numbers["provenance"]),
        ("Settings", numbers["settings"]),
    ):
        if values:
            yield Table(
                ["", "value"], [[name, str(value)] for name, value in _flat(values)], caption
            )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _limits() -> Iterator[Element]:
    yield Text(
        "For research, not a medical device: no diagnosis and no treatment may rest on this report."
    )
    yield Text(
        "Scores hold for recordings like those of the test split: other equipment, montages, ages,"
        " diseases and annotators can change them much. Annotators themselves disagree, and the"
        " scores are measured against one set of annotations."
    )
    yield Text("Generated EEG is drawn from a model and does not represent any person.")


# ---------------------------------------------------------------------------------------- numbers


def _number(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def _percent(value: float | None) -> str:
    return _number(None if value is None else 100 * value)


def _spread_words(summary: dict[str, float | None]) -> str:
    return "–" if summary["mean"] is None else f"{summary['mean']:.2f} ± {summary['std']:.2f}"


def _percent_with_interval(interval: dict[str, Any]) -> str:
    if interval["low"] is None:
        return _percent(interval["value"])
    return (
        f"{_percent(interval['value'])} [{_percent(interval['low'])}, {_percent(interval['high'])}]"
    )


def _over_runs(values: Sequence[float | None]) -> str:
    if len(values) == 1:
        return _percent(values[0])
    defined = [100 * value for value in values if value is not None]
    return f"{np.mean(defined):.2f} ± {np.std(defined):.2f}" if len(defined) == len(values) else "–"
