"""The command line: it composes settings and calls stages, and turns faults into one line and exit
status 2.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from eegdm import __version__
from eegdm.console import run_main
from eegdm.errors import UserError
from eegdm.stages import STAGES, run_stage

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "EEGDM: from raw EEG to representations, decisions and marked events. Settings are"
        " key=value words; options start with dashes."
    ),
)


def main() -> None:
    """Run the command line."""
    run_main(app)


def _add_stage(name: str) -> None:
    text, sections = STAGES[name]

    def command(
        words: Annotated[
            list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings; see below")
        ] = None,
        multirun: Annotated[
            bool,
            typer.Option(
                "--multirun", "-m", help="run once for each combination of comma-separated values"
            ),
        ] = False,
        cfg: Annotated[
            str | None, typer.Option(metavar="job", help="print the settings and stop")
        ] = None,
        settings: Annotated[
            bool,
            typer.Option(
                "--settings", help="list this stage's settings, and when to change each, and stop"
            ),
        ] = False,
    ) -> None:
        from eegdm import compose
        from eegdm.experiments.sweeps import plan_runs

        if settings:
            for key, default, texts in compose.explained_settings(sections):
                typer.echo(f"{key}={default if default is not None else 'null'}")
                for text in texts:
                    typer.echo(f"    {text}")
            return
        for run in plan_runs(name, words or []) if multirun else [words or []]:
            if cfg is not None:
                typer.echo(compose.as_yaml(compose.compose(run)))
            else:
                run_stage(name, run)

    command.__doc__ = f"{text}. `eegdm {name} --settings` lists what can be set."
    app.command(name, rich_help_panel="Stages: eegdm STAGE corpus=NAME recipe=NAME key=value ...")(
        command
    )


for _name in STAGES:
    _add_stage(_name)


_PLACES = (
    "a folder, a published .ckpt, or owner/name or owner/name@revision:file on the Hugging Face hub"
)
SOURCE = typer.Argument(
    metavar="FOLDER", help="recordings at any depth, or what `eegdm embed` wrote of them"
)
STEP = typer.Option("--step", help="seconds from one window to the next")
CLASSIFIER = typer.Option(
    "--model", help=f"a classifier, such as `eegdm finetune` writes: {_PLACES}"
)
BACKBONE = typer.Option(
    "--model",
    help=f"a backbone or classifier: {_PLACES}; mini is the small backbone of the package",
)
DEVICE = typer.Option("--device", help="auto, cpu, cuda or mps")
MISSING = typer.Option(
    "--missing",
    help=(
        "channels that the recording lacks: error, drop, or interpolate (spherical splines;"
        " referential recordings)"
    ),
)
CHANNELS = typer.Option(
    "--channels",
    help=(
        "montage: derive the model's; file: the file's own electrodes, each for the nearest of the"
        " model's (the stages' signal.montage=referential takes any channels and gives them no"
        " place)"
    ),
)
RATE = typer.Option(
    "--rate",
    help=(
        "resample to the model's sampling rate, or native: stay at the recording's, 100 to 1000 Hz"
    ),
)
UNIT = typer.Option(
    "--unit", help="what the file's numbers are in, above what it says: V, mV or uV"
)
NOTCH = typer.Option(
    "--notch",
    help="Hz in place of the model's, separated by commas; auto: 50 or 60 by the recording's hum",
)
BATCH = typer.Option(
    "--batch-size", help="windows that the model takes at once; changes time and memory only"
)
THRESHOLD = typer.Option("--threshold", help="probability from which a window is an event")
MIN_DURATION = typer.Option("--min-duration", help="seconds; shorter events are dropped")
SMOOTHING = typer.Option("--smoothing", help="seconds over which probabilities are averaged")
TEMPERATURE = typer.Option("--temperature", help="what logits are divided by: calibration")
EVENTS = typer.Option("--events", help="the classes that are events, separated by commas")
REPORT = typer.Option("--report/--no-report", help="write a page to read in a browser")

WORKERS = typer.Option("--workers", help="processes that share the recordings of a folder")
CLUSTER = typer.Option(
    "--cluster", help="a dask scheduler, tcp://..., whose workers share a folder"
)
STRICT = typer.Option("--strict", help="end with an error if any recording of a folder failed")
TABLE = typer.Option(
    "--table",
    help=(
        "labels of a folder's recordings: CSV, TSV or Parquet with file, onset_s, duration_s and"
        " label, or file and label"
    ),
)


def _naming_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command's faults name its options, `--missing drop`, where the package says
    `missing=drop`.
    """
    names = [*inspect.signature(command).parameters]

    @functools.wraps(command)
    def wrapped(*arguments: object, **options: object) -> None:
        from eegdm.console import as_options

        try:
            command(*arguments, **options)
        except UserError as error:
            raise UserError(as_options(str(error), names)) from error

    return wrapped


def _frequencies(text: str | None) -> tuple[float, ...] | str | None:
    """What --notch says: frequencies, or a word."""
    try:
        return None if text is None else tuple(float(hz) for hz in text.split(","))
    except ValueError:
        return text


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def predict(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE_OR_FOLDER",
            help="recordings that MNE reads (EDF, BDF, FIF, BrainVision, ...)",
        ),
    ],
    model: Annotated[str, CLASSIFIER],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder for the results; beside each recording by default"),
    ] = None,
    step: Annotated[float | None, STEP] = None,
    threshold: Annotated[float | None, THRESHOLD] = None,
    min_duration: Annotated[float | None, MIN_DURATION] = None,
    smoothing: Annotated[float | None, SMOOTHING] = None,
    temperature: Annotated[float | None, TEMPERATURE] = None,
    events: Annotated[str | None, EVENTS] = None,
    decide: Annotated[
        str | None,
        typer.Option(
            "--decide",
            help=(
                "events: mark stretches; recording: one class for the whole of each recording, by"
                " the mean probability of its windows. By default as the model's labels were"
            ),
        ),
    ] = None,
    channels: Annotated[str, CHANNELS] = "montage",
    missing: Annotated[str, MISSING] = "error",
    rate: Annotated[str, RATE] = "resample",
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help=(
                "for a classifier of centred tokens: another recording of the same person, by which"
                " they are centred; the recording itself by default"
            ),
        ),
    ] = None,
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy", help="edf or fif: also write a copy of the recording with the events in it"
        ),
    ] = None,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="keep patient and date in the copy's header")
    ] = False,
    report: Annotated[bool, REPORT] = True,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
    workers: Annotated[int, WORKERS] = 1,
    cluster: Annotated[str | None, CLUSTER] = None,
    strict: Annotated[bool, STRICT] = False,
) -> None:
    """Mark the events in a recording, or in all below a folder: *_events.tsv,
    *_probabilities.parquet, *_report.html. A model that learned from labels of whole recordings
    gives each recording one class.

    What is not given is as the model has it. The same command resumes a killed run.
    """
    from eegdm.inference.prediction import Options
    from eegdm.inference.prediction_folder import Outputs, predict_path

    options = Options(
        step_s=step,
        threshold=threshold,
        min_duration_s=min_duration,
        smoothing_s=smoothing,
        temperature=temperature,
        event_classes=tuple(events.split(",")) if events else None,
        decide=decide,
        channels=channels,
        missing=missing,
        rate=rate,
        unit=unit,
        notch=_frequencies(notch),
        device=device,
        batch_size=batch_size,
        calibration=calibration,
    )
    outputs = Outputs(report=report, copy=copy, keep_identity=keep_identity)
    for written in predict_path(path, model, out, options, outputs, workers, strict, cluster):
        typer.echo(str(written))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def watch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|lsl:NAME",
            help=(
                "an EDF or BDF file that is being written, or a stream of the Lab Streaming Layer,"
                " which is recorded into --out"
            ),
        ),
    ],
    model: Annotated[str, CLASSIFIER],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder for the results; beside a file by default"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", help="how much of the recording; by default to its end or Ctrl-C"
        ),
    ] = None,
    step: Annotated[float | None, STEP] = None,
    threshold: Annotated[float | None, THRESHOLD] = None,
    min_duration: Annotated[float | None, MIN_DURATION] = None,
    smoothing: Annotated[float | None, SMOOTHING] = None,
    temperature: Annotated[float | None, TEMPERATURE] = None,
    events: Annotated[str | None, EVENTS] = None,
    channels: Annotated[str, CHANNELS] = "montage",
    missing: Annotated[str, MISSING] = "error",
    rate: Annotated[str, RATE] = "resample",
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help=(
                "for a classifier of centred tokens: another recording of the same person, by which"
                " they are centred"
            ),
        ),
    ] = None,
    report: Annotated[bool, REPORT] = True,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
) -> None:
    """Mark events while a recording is made: lines as they begin and end, *_live_events.tsv,
    *_live_probabilities.tsv, and at its end what `eegdm predict` writes.

    A window is known as soon as what comes later can't change it: 21 s after its end for a
    high-pass of 0.1 Hz, 23 s if the recording is resampled.
    """
    from eegdm.console import stopped_by_signals
    from eegdm.inference.prediction_folder import Outputs
    from eegdm.inference.watching import Watch, describe

    watching = Watch(
        source,
        model,
        out,
        seconds=seconds,
        step_s=step,
        threshold=threshold,
        min_duration_s=min_duration,
        smoothing_s=smoothing,
        temperature=temperature,
        event_classes=tuple(events.split(",")) if events else None,
        channels=channels,
        missing=missing,
        rate=rate,
        unit=unit,
        notch=_frequencies(notch),
        device=device,
        batch_size=batch_size,
        calibration=calibration,
    )
    with stopped_by_signals(watching.stop):
        for update in watching:
            for line in describe(update):
                typer.echo(line)
    for written in watching.finish(Outputs(report=report)):
        typer.echo(str(written))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def embed(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE_OR_FOLDER",
            help="recordings that MNE reads (EDF, BDF, FIF, BrainVision, ...)",
        ),
    ],
    model: Annotated[str, BACKBONE] = "mini",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help=(
                "X.npz, X.parquet, or a folder to be memory-mapped; for a folder of recordings a"
                " folder, runs/embeddings/FOLDER-MODEL by default"
            ),
        ),
    ] = None,
    table: Annotated[Path | None, TABLE] = None,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens", help="all axes of the tokens; by default their mean over a window's pools"
        ),
    ] = False,
    step: Annotated[float | None, STEP] = None,
    channels: Annotated[str, CHANNELS] = "montage",
    missing: Annotated[str, MISSING] = "error",
    rate: Annotated[str, RATE] = "resample",
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
    workers: Annotated[int, WORKERS] = 1,
    cluster: Annotated[str | None, CLUSTER] = None,
    strict: Annotated[bool, STRICT] = False,
) -> None:
    """Write the embeddings of windows and channels by a backbone or a classifier: of a recording,
    or of all below a folder.

    The same command resumes a killed run on a folder; with --table, each window gets its label.
    """
    options: dict[str, Any] = {
        "tokens": tokens,
        "step_s": step,
        "channels": channels,
        "missing": missing,
        "rate": rate,
        "unit": unit,
        "notch": _frequencies(notch),
        "device": device,
        "batch_size": batch_size,
    }
    if path.is_dir():
        from eegdm.features import embed_folder

        shared: dict[str, Any] = {
            "table": table,
            "workers": workers,
            "cluster": cluster,
            "strict": strict,
        }
        typer.echo(str(embed_folder(path, model, out, **shared, **options).path))
        return
    from eegdm.inference.embedding import EmbedOptions
    from eegdm.inference.embedding_files import embed_file

    if table is not None:
        raise UserError(f"table={table}: goes with a folder of recordings, {path} is a file")
    typer.echo(str(embed_file(path, model, out, EmbedOptions(**options))))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def surprise(
    file: Annotated[
        Path, typer.Argument(help="a recording that MNE reads (EDF, BDF, FIF, BrainVision, ...)")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", help=f"whose channels, filters and population count: {_PLACES}; mini"
        ),
    ] = "mini",
    out: Annotated[
        Path | None, typer.Option("--out", help="X.tsv or X.parquet; the page is X.html")
    ] = None,
    channels: Annotated[str, CHANNELS] = "montage",
    missing: Annotated[str, MISSING] = "error",
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
) -> None:
    """Find the strangest seconds of a recording without labels: *_surprise.tsv, and a page with
    their traces.
    """
    from eegdm.inference.surprise_files import surprise_file
    from eegdm.inference.surprising import SurpriseOptions

    options = SurpriseOptions(
        channels=channels, missing=missing, unit=unit, notch=_frequencies(notch)
    )
    for written in surprise_file(file, model, out, options):
        typer.echo(str(written))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def find(
    source: Annotated[Path, SOURCE],
    like: Annotated[
        str,
        typer.Option(
            "--like",
            metavar="FILE@START-STOP",
            help="a stretch of one of the recordings, in seconds: night.edf@12.5-17.5",
        ),
    ],
    model: Annotated[str | None, BACKBONE] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder for the results; below runs/found by default"),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            help=(
                "look for what this channel of the stretch shows, in any channel (several:"
                " separated by commas); by default all channels are compared, each with its"
                " namesake"
            ),
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="number of matches", min=1)] = 20,
    features: Annotated[
        str, typer.Option("--features", help="what is compared: band_power or tokens")
    ] = "band_power",
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy",
            help="edf or fif: also write copies of the recordings with the matches in them",
        ),
    ] = None,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="keep patient and date in the copies' headers")
    ] = False,
    step: Annotated[float | None, STEP] = None,
    channels: Annotated[str | None, CHANNELS] = None,
    missing: Annotated[str | None, MISSING] = None,
    rate: Annotated[str | None, RATE] = None,
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
    workers: Annotated[int, WORKERS] = 1,
) -> None:
    """Find the stretches of all recordings that are most like one of them: a table, and a page with
    their traces.

    The same command resumes a killed run, and is done in seconds once features are stored.
    """
    from eegdm.features.find_files import find_files

    written = find_files(
        source,
        like,
        model,
        out,
        channel=channel,
        top=top,
        features=features,
        copy=copy,
        keep_identity=keep_identity,
        device=device,
        batch_size=batch_size,
        workers=workers,
        step_s=step,
        channels=channels,
        missing=missing,
        rate=rate,
        unit=unit,
        notch=_frequencies(notch),
    )
    for path in written:
        typer.echo(str(path))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def evaluate(
    source: Annotated[Path, SOURCE],
    table: Annotated[Path | None, TABLE] = None,
    model: Annotated[str | None, BACKBONE] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help=(
                "who is never on both sides of a division: subject, or recording where each"
                " recording is of somebody else"
            ),
        ),
    ] = "subject",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="folder for the results; runs/evaluations/FOLDER-MODEL by default"
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="labels to distinguish, separated by commas"),
    ] = None,
    windows: Annotated[
        int | None,
        typer.Option(
            "--windows",
            help=(
                "at most this number for each label of a person, spread evenly; by default as many"
                " as keep all together at about 1,500"
            ),
        ),
    ] = None,
    step: Annotated[float | None, STEP] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", help="how often labels are permuted", min=0)
    ] = 200,
    channels: Annotated[str | None, CHANNELS] = None,
    missing: Annotated[str | None, MISSING] = None,
    rate: Annotated[str | None, RATE] = None,
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
    workers: Annotated[int, WORKERS] = 1,
) -> None:
    """Say what a model's tokens are worth for labelled recordings of many people, beside random
    weights and classical features: one page.

    The same command resumes a killed run, and is done in seconds when nothing is new.
    """
    from eegdm.features.evaluation import evaluate as evaluate_model

    found = evaluate_model(
        source,
        table,
        model,
        by=by,
        out=out,
        classes=classes.split(",") if classes else None,
        windows=windows,
        permutations=permutations,
        device=device,
        batch_size=batch_size,
        workers=workers,
        step_s=step,
        channels=channels,
        missing=missing,
        rate=rate,
        unit=unit,
        notch=_frequencies(notch),
    )
    typer.echo(str(found.page))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def evaluate_events(
    reference: Annotated[
        Path,
        typer.Argument(help="folder of annotated seizures: sub-*/.../*_events.tsv, as SzCORE has"),
    ],
    hypothesis: Annotated[
        Path,
        typer.Argument(help="folder of found seizures, laid out alike; `eegdm predict` writes one"),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="X.json or X.csv: also the scores of recordings and subjects"),
    ] = None,
) -> None:
    """Score folders of seizure events as SzCORE does: each event and each second, over subjects."""
    from eegdm.evaluation import szcore

    if out is not None:
        szcore.refuse_suffix(out)
    found = szcore.evaluate_folders(reference, hypothesis)
    for line in szcore.describe(found):
        typer.echo(line)
    if out is not None:
        szcore.write_evaluation(out, found)
        typer.echo(str(out))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def fit(
    source: Annotated[Path, SOURCE],
    out: Annotated[Path, typer.Option("--out", help="folder for the classifier")],
    table: Annotated[Path | None, TABLE] = None,
    model: Annotated[str | None, BACKBONE] = None,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help=(
                "what windows of marked recordings are that no mark touches; without it nothing is"
                " learned from them"
            ),
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            "--events",
            help="the labels that are events, separated by commas; all but the background",
        ),
    ] = None,
    centre: Annotated[
        str | None,
        typer.Option(
            "--centre",
            help=(
                "recording or subject: divide tokens by what is usual in the recording, or in all"
                " marked ones of the person"
            ),
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(help="what band power and random weights reach on the same marks"),
    ] = True,
    step: Annotated[float | None, STEP] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels",
            help=(
                "montage: learn from the TCP channels that all marked recordings have; file: from"
                " the file's own electrodes, which other recordings must have by name"
            ),
        ),
    ] = None,
    missing: Annotated[str | None, MISSING] = None,
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
    workers: Annotated[int, WORKERS] = 1,
) -> None:
    """Fit a detector to a few marks, in seconds once tokens are stored, and say what to expect of
    it.

    The folder is a classifier for `eegdm predict`; more marks replace it.
    """
    from eegdm.features.detector import PAGE
    from eegdm.features.detector import fit as fit_detector

    found = fit_detector(
        source,
        table,
        out,
        model,
        background=background,
        events=events.split(",") if events else None,
        centre=centre,
        compare=compare,
        device=device,
        batch_size=batch_size,
        workers=workers,
        step_s=step,
        channels=channels,
        missing=missing,
        unit=unit,
        notch=_frequencies(notch),
    )
    typer.echo(str(found.path))
    typer.echo(str(out / PAGE))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def suggest(
    source: Annotated[Path, SOURCE],
    table: Annotated[Path | None, TABLE] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="folder for the results; runs/suggestions/FOLDER-MODEL by default"
        ),
    ] = None,
    model: Annotated[str | None, BACKBONE] = None,
    n: Annotated[int, typer.Option("-n", help="how many windows")] = 10,
    step: Annotated[float | None, STEP] = None,
    channels: Annotated[str | None, CHANNELS] = None,
    missing: Annotated[str | None, MISSING] = None,
    unit: Annotated[str | None, UNIT] = None,
    notch: Annotated[str | None, NOTCH] = None,
    device: Annotated[str, DEVICE] = "auto",
    batch_size: Annotated[int, BATCH] = 16,
    workers: Annotated[int, WORKERS] = 1,
) -> None:
    """Suggest which windows to mark next: suggest.html with their traces, and to_mark.csv to fill
    in.

    Mark, `eegdm fit`, suggest: the same options read the same stored tokens. Rows of the table
    without a label are neither learned from nor suggested again.
    """
    from eegdm.features.suggesting import PAGE, TO_MARK
    from eegdm.features.suggesting import suggest as suggest_windows

    found = suggest_windows(
        source,
        table,
        out,
        model,
        n=n,
        device=device,
        batch_size=batch_size,
        workers=workers,
        step_s=step,
        channels=channels,
        missing=missing,
        unit=unit,
        notch=_frequencies(notch),
    )
    for name in (PAGE, TO_MARK):
        typer.echo(str(found.path / name))


@app.command(rich_help_panel="Recordings and models")
@_naming_options
def generate(
    model: Annotated[str, BACKBONE] = "mini",
    out: Annotated[
        Path, typer.Option("--out", help="X.fif or X.edf; a picture goes beside it")
    ] = Path("generated_raw.fif"),
    channels: Annotated[
        str | None, typer.Option("--channels", help="names such as FP1-F7,F7-T3; all by default")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="windows of 5 s per channel")] = 1,
    sampler: Annotated[str, typer.Option("--sampler", help="ddpm, ddim or dpmsolver++")] = "ddpm",
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="how many of the diffusion steps are taken; all by default"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="the same seed gives the same windows")] = 0,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Generate EEG: windows of single channels drawn by a backbone, as a recording in volts, and a
    picture.
    """
    from eegdm.inference.generation import generate_file

    names = channels.split(",") if channels else None
    options = {"sampler": sampler, "steps": steps, "seed": seed, "device": device}
    for written in generate_file(out, model, names, n, **options):
        typer.echo(str(written))


@app.command(rich_help_panel="Recordings and models")
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="a published checkpoint, such as classifier.ckpt")
    ],
    out: Annotated[Path, typer.Argument(help="the folder to write")],
    weights: Annotated[str, typer.Option("--weights", help="ema or online")] = "ema",
    compat: Annotated[
        str | None,
        typer.Option("--compat", help="published: repeat the errors the weights were trained with"),
    ] = None,
) -> None:
    """Turn a published checkpoint into a folder of safetensors and JSON, without running anything
    in it.
    """
    from eegdm.checkpoints.load import convert as convert_checkpoint

    typer.echo(str(convert_checkpoint(checkpoint, out, weights=weights, compat=compat)))


@app.command(rich_help_panel="Recordings and models")
def info(
    folder: Annotated[Path, typer.Argument(help="any folder that eegdm wrote")],
    verify: Annotated[
        bool, typer.Option("--verify", help="read every byte and compare checksums")
    ] = False,
    methods: Annotated[
        bool,
        typer.Option("--methods", help="say what was done, as text for a paper with references"),
    ] = False,
    privacy: Annotated[
        bool, typer.Option("--privacy", help="say what in the folder could identify people")
    ] = False,
) -> None:
    """Say what is in a folder, from what it was made, how large it is, and whether it is intact;
    or what was done, or what could identify people.
    """
    if methods + privacy + verify > 1:
        raise UserError("--verify, --methods and --privacy are asked one at a time")
    if methods:
        from eegdm.report.methods import describe_methods as describe
    elif privacy:
        from eegdm.privacy import describe_privacy as describe
    else:
        from eegdm.info import describe_artifact

        describe = functools.partial(describe_artifact, verify=verify)
    for line in describe(folder):
        typer.echo(line)


@app.command(rich_help_panel="First")
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for the results")] = Path("runs"),
) -> None:
    """Run everything on synthetic EEG in minutes: five stages, then events marked in an unseen
    recording.
    """
    from eegdm.demo import run_demo

    run_demo(out)


@app.command(rich_help_panel="Recordings and models")
def download(
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="chbmit|siena|eegmmidb|eegmat|tuev|tuab|tusz",
            help=(
                "the first four are downloaded from PhysioNet; the others are given out on"
                " request: how, in words"
            ),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="the corpus's folder; data/CORPUS by default; tuev, tuab, tusz: checked if there",
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            "--subjects",
            "--patients",
            help="such as chb01,chb02, PN00, S001 or Subject00; all by default (43 GB, 20 GB,"
            " 3.4 GB, 180 MB)",
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="a mirror of the database")
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", help="files at a time", min=1, max=32)
    ] = 4,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="folder of another TUH corpus: name the people that are in both"
        ),
    ] = None,
) -> None:
    """Download a corpus, resumable and checked; the same command resumes after a break."""
    from eegdm.data import download as corpora
    from eegdm.data.tuh_check import TUH_CORPORA, check_tuh, how_to_get

    folder = out or Path("data") / corpus
    if against and corpus not in TUH_CORPORA:
        raise UserError(
            f"--against: names people whom two TUH corpora share; leave it out for {corpus}"
        )
    if corpus in corpora.DATABASES:
        names = [name.strip() for name in subjects.split(",")] if subjects else []
        typer.echo(str(corpora.download_database(corpus, folder, names, base_url, connections)))
    elif corpus in TUH_CORPORA:
        is_there = folder.is_dir()
        for line in check_tuh(corpus, folder, against) if is_there else [how_to_get(corpus)]:
            typer.echo(line)
    else:
        raise UserError(
            f"download {corpus}: {', '.join(corpora.DATABASES)} are downloaded,"
            f" {', '.join(TUH_CORPORA)} are given out on request; other corpora are yours to bring"
        )


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(rich_help_panel="Experiments")
def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help=(
                "main, mu_law_schedule_noise, steps, pooling, layers, fusion, chbmit or"
                " sampling_rate"
            )
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="settings of all its runs; seed=0,1,2"),
    ] = None,
    tuev: Annotated[Path | None, typer.Option("--tuev", help="folder of TUEV's recordings")] = None,
    chbmit: Annotated[
        Path | None, typer.Option("--chbmit", help="folder of CHB-MIT's recordings")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="a recipe whose sizes and training all take, such as small"),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="RECIPE,...", help="the rows of these recipes")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="show the plan, its disk and an estimate of its time, and stop"
        ),
    ] = False,
) -> None:
    """Run what a table of the paper needs, and print ours beside the published numbers;
    corpus=synthetic needs no recordings.
    """

    from eegdm.experiments import plans

    chosen = plans.find_table(table, only.split(",") if only else ())
    settings = [*(plans.sized(size) if size else []), *(words or [])]
    sources = {
        name: str(folder)
        for name, folder in (("tuev", tuev), ("chbmit", chbmit))
        if folder is not None
    }
    if not dry_run:
        plans.run_table(chosen, settings, sources)
        return
    from eegdm.experiments.costs import describe_costs

    for line in describe_costs(plans.plan_steps(chosen, settings, sources)):
        typer.echo(line)


@app.command(rich_help_panel="Experiments")
def sweep(
    stage: Annotated[
        str, typer.Argument(help="preprocess, pretrain, cache, finetune, report or distill")
    ],
    words: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE,VALUE...", help="settings; a run for each combination"),
    ],
    launcher: Annotated[str, typer.Option("--launcher", help="joblib, local or slurm")] = "joblib",
    at_once: Annotated[int, typer.Option("--at-once", help="processes at a time (joblib)")] = 2,
    job: Annotated[
        list[str] | None,
        typer.Option("--job", help="a parameter of submitit: timeout_min=600, slurm_partition=gpu"),
    ] = None,
) -> None:
    """As STAGE -m, but runs side by side: processes of this machine, or SLURM jobs that resume
    after a time limit.
    """
    from eegdm.experiments.sweeps import launch

    launch(stage, words, launcher, at_once, job or [])
