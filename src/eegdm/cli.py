"""The command line: it composes settings and calls stages, and turns faults into one line and exit status 2."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from eegdm import __version__
from eegdm.errors import Interrupted, UserError

# Each stage, what it does, and the sections of the configuration it reads.
STAGES = {
    "preprocess": ("raw recordings -> recordings/", ("corpus", "signal", "run")),
    "pretrain": ("recordings -> backbone/", ("windows", "backbone", "diffusion", "pretrain", "run")),
    "cache": ("recordings + backbone -> latents/", ("windows", "latents", "run")),
    "finetune": ("tokens -> classifier/seed=N/", ("windows", "latents", "fusion", "finetune", "run")),
    "report": ("recordings + classifiers -> report/", ("windows", "run")),
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="EEGDM: from raw EEG to representations, decisions and marked events. Settings are key=value words; options start with dashes.",
)


def main() -> None:
    """Run the command line."""
    run_main(app)


def run_main(function: Callable[[], object]) -> None:
    """Run a command; a fault that a user can mend becomes one line per fault and exit status 2, or a traceback with --debug.

    SIGINT and SIGTERM end it with one line and the status that shells give, 130 or 143.
    """
    # Threads that spin while they wait cost a busy machine up to a hundredfold; read by OpenMP when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        function()
    except Interrupted as interrupted:
        print("eegdm: interrupted; what is finished is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(128 + interrupted.signal)
    except UserError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"eegdm: {line}", file=sys.stderr)
        sys.exit(2)


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


def run_stage(name: str, words: list[str]) -> Path:
    """Compose the words and run one stage; the folder it wrote."""
    from eegdm.compose import compose

    config = compose(words)
    return importlib.import_module(f"eegdm.stages.{name}").run(config)


def _add_stage(name: str) -> None:
    text, sections = STAGES[name]

    def command(
        words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings; see below")] = None,
        multirun: Annotated[bool, typer.Option("--multirun", "-m", help="run once for each combination of comma-separated values")] = False,
        cfg: Annotated[str | None, typer.Option(metavar="job", help="print the settings and stop")] = None,
        settings: Annotated[
            bool, typer.Option("--settings", help="list this stage's settings, their defaults and units, and stop")
        ] = False,
    ) -> None:
        from eegdm import compose

        if settings:
            for key, default, help_text in compose.describe(sections):
                typer.echo(f"{key}={default if default is not None else 'null'}\n    {help_text}")
            return
        for run in compose.expand(words or []) if multirun else [words or []]:
            if cfg is not None:
                typer.echo(compose.as_yaml(compose.compose(run)))
            else:
                run_stage(name, run)

    command.__doc__ = f"{text}. `eegdm {name} --settings` lists what can be set."
    app.command(name, rich_help_panel="Stages: eegdm STAGE corpus=NAME recipe=NAME key=value ...")(command)


for _name in STAGES:
    _add_stage(_name)


@app.command(rich_help_panel="Recordings and models")
def predict(
    file: Annotated[Path, typer.Argument(help="a recording that MNE reads (EDF, BDF, FIF, BrainVision, ...)")],
    model: Annotated[str, typer.Option("--model", help="classifier folder, published .ckpt, or hub id")],
    out: Annotated[Path | None, typer.Option("--out", help="folder for the results; beside the recording by default")] = None,
    step: Annotated[float | None, typer.Option("--step", help="seconds from one window to the next")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="probability from which a window is an event")] = None,
    missing: Annotated[str, typer.Option("--missing", help="error or drop: what to do about channels the recording lacks")] = "error",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps")] = "auto",
) -> None:
    """Mark the events in a recording: *_events.tsv, *_probabilities.parquet."""
    from eegdm.recordings import write_prediction

    for path in write_prediction(file, model, out, step_s=step, threshold=threshold, missing=missing, device=device):
        typer.echo(str(path))


@app.command(rich_help_panel="Recordings and models")
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="a published checkpoint, such as classifier.ckpt")],
    out: Annotated[Path, typer.Argument(help="the folder to write")],
    weights: Annotated[str, typer.Option("--weights", help="ema or online")] = "ema",
    compat: Annotated[str | None, typer.Option("--compat", help="published: repeat the errors the weights were trained with")] = None,
) -> None:
    """Turn a published checkpoint into a folder of safetensors and JSON, without running anything in it."""
    from eegdm.pretrained import convert as convert_checkpoint

    typer.echo(str(convert_checkpoint(checkpoint, out, weights=weights, compat=compat)))


@app.command(rich_help_panel="Recordings and models")
def info(
    folder: Annotated[Path, typer.Argument(help="any folder that eegdm wrote")],
    verify: Annotated[bool, typer.Option("--verify", help="read every byte and compare checksums")] = False,
) -> None:
    """Say what is in a folder, from what it was made, how large it is, and whether it is intact."""
    from eegdm.information import describe

    for line in describe(folder, verify):
        typer.echo(line)


@app.command(rich_help_panel="First")
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for the results")] = Path("runs"),
) -> None:
    """Run everything on made-up EEG in minutes: five stages, then events marked in an unseen recording."""
    from eegdm.demo import run

    run(out)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
