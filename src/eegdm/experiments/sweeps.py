"""Sweeps that run side by side: each combination of `eegdm STAGE -m seed=0,1,2` as a process of its
own, here or as a SLURM job.

A run is a command line, not a function in a worker: one that is killed is one failed run, and the
same command finishes it. Hydra's launcher plugins call functions inside workers and need
``hydra.main``, which no command uses, so joblib and submitit are called here.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eegdm.compose import compose, expand_sweep
from eegdm.config import did_you_mean
from eegdm.console import say
from eegdm.errors import UserError, one_line
from eegdm.layout import COMMAND, own_folder
from eegdm.stages import of_each_fold

KIND_OF_STAGE = {stage: kind for kind, stage in COMMAND.items()} | {"distill": "backbone"}
NAMED = {  # what the folder of each stage is named after
    "preprocess": "corpus= and recipe= give",
    "pretrain": "corpus=, recipe= and fold= (with split=kfold) give",
    "cache": "corpus=, recipe= and fold= (with split=kfold) give",
    "finetune": "corpus=, recipe=, seed= and fold= (with split=kfold) give",
    "report": "corpus=, recipe= and rate= give",
    "distill": "corpus=, recipe= and fold= (with split=kfold) give",
}
LAUNCHERS = ("joblib", "local", "slurm")
"""joblib: some processes at a time; local: all at once by submitit; slurm: jobs of a cluster by
submitit.
"""


class Command:
    """One run of a stage, as submitit pickles and calls it."""

    def __init__(self, stage: str, words: Sequence[str]) -> None:
        self.line = [sys.executable, "-m", "eegdm", stage, *words]

    def __str__(self) -> str:
        return shlex.join(["eegdm", *self.line[3:]])

    def __call__(self) -> int:
        """Run it; its exit status."""
        return subprocess.run(self.line).returncode

    def checkpoint(self) -> Any:
        """What submitit submits again when SLURM's time limit or a preemption ends the job: the
        same command resumes where it stopped.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class RunOutcome(NamedTuple):
    """A run and how it ended."""

    command: str
    status: int


def launch(
    stage: str,
    words: Sequence[str],
    launcher: str,
    at_once: int = 2,
    job: Sequence[str] = (),
    logs: Path | None = None,
) -> list[RunOutcome]:
    """Run a stage once for each combination of comma-separated values.

    Args:
        stage: one of the commands that take settings.
        words: as after `eegdm STAGE -m`.
        launcher: one of :data:`LAUNCHERS`.
        at_once: processes at a time (joblib).
        job: submitit's parameters, such as `timeout_min=600`, `gpus_per_node=1`,
            `slurm_partition=NAME`.
        logs: folder of submitit's job files and logs; `<root>/sweeps` by default.

    Returns:
        The outcomes, in order; none for slurm, whose jobs are submitted and not waited for.

    Raises:
        UserError: an unknown launcher, stage or parameter, settings that no run can have, or runs
            that failed (after all have ended).
    """
    from eegdm.stages import STAGES

    for value, known in ((launcher, LAUNCHERS), (stage, STAGES)):
        if value not in known:
            raise UserError(
                f"sweep: {value!r} is unknown; choose from"
                f" {', '.join(known)}{did_you_mean(value, known)}"
            )
    runs = plan_runs(stage, words)
    commands = [Command(stage, run) for run in runs]
    say(f"sweep: {len(commands)} runs by {launcher}")
    if launcher == "joblib":
        return _raise_if_failed(_by_joblib(commands, at_once))
    root = Path(compose(of_each_fold(stage, runs[0])[0]).run.root)
    logs = logs or root / "sweeps"
    return _by_submitit(commands, launcher, job, logs)


def plan_runs(stage: str, words: Sequence[str]) -> list[list[str]]:
    """Return the words of each combination, all of them checked before any is run.

    Raises:
        UserError: settings that no run can have, or combinations that would write to one folder.
    """
    runs = expand_sweep(list(words))
    folders: dict[Path, list[str]] = {}
    for run in runs:
        for words_of_fold in of_each_fold(stage, run):
            folder = own_folder(compose(words_of_fold), KIND_OF_STAGE[stage])
            if folder in folders:
                raise UserError(_same_folder(stage, folder, folders[folder], words_of_fold))
            folders[folder] = words_of_fold
    return runs


def _same_folder(stage: str, folder: Path, first: list[str], second: list[str]) -> str:
    """One line on two runs that differ in what no folder is named after, with the commands that
    give them roots of their own.
    """
    from eegdm.opening import READS

    config = compose(first)
    read = [kind for kind in READS[stage] if kind != "latents" or config.latents.cached]
    inputs = [
        f"{kind}={own_folder(config, kind)}" for kind in read if not getattr(config.run, kind)
    ]
    commands = []
    for run, other in ((first, second), (second, first)):
        differing = [word for word in run if word not in other]
        kept = [word for word in run if not word.startswith("run.root=")]
        root = f"root={config.run.root}/{','.join(differing)}"
        commands.append(shlex.join(["eegdm", stage, *kept, root, *inputs]))
    return (
        f"sweep: two runs would write to {folder}; {NAMED[stage]} a run its own folder, for other"
        f" settings give each its own root=: {'; '.join(commands)}"
    )


def _by_joblib(commands: list[Command], at_once: int) -> list[RunOutcome]:
    """In threads that wait for processes: joblib's own workers would take all runs with them when
    one is killed.
    """
    from joblib import Parallel, delayed

    statuses = Parallel(n_jobs=at_once, backend="threading")(
        delayed(command)() for command in commands
    )
    return [
        RunOutcome(str(command), status) for command, status in zip(commands, statuses, strict=True)
    ]


def _by_submitit(
    commands: list[Command], cluster: str, job: Sequence[str], logs: Path
) -> list[RunOutcome]:
    executor = _executor(cluster, job, logs)
    with executor.batch():
        jobs = [executor.submit(command) for command in commands]
    for submitted, command in zip(jobs, commands, strict=True):
        say(f"{submitted.job_id}: {command}; log {submitted.paths.stdout}")
    if cluster == "slurm":
        return []
    return _raise_if_failed(
        [
            RunOutcome(str(command), _status(submitted))
            for submitted, command in zip(jobs, commands, strict=True)
        ]
    )


def _executor(cluster: str, job: Sequence[str], logs: Path) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "sweep: local and slurm need the package submitit; install it by pip install"
            " 'eegdm[slurm]'"
        ) from error
    try:
        executor = submitit.AutoExecutor(logs, cluster=cluster)
        executor.update_parameters(**{"name": "eegdm", **_parameters(job)})
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise UserError(
            f"sweep: submitit refuses {cluster} with {' '.join(job) or 'no parameters'}:"
            f" {one_line(error)}"
        ) from error
    return executor


def _parameters(job: Sequence[str]) -> dict[str, int | str]:
    pairs = [word.partition("=") for word in job]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise UserError(f"sweep: --job {wrong[0]}: write KEY=VALUE, such as timeout_min=600")
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}


def _status(submitted: Any) -> int:
    from submitit.core.utils import UncompletedJobError

    try:
        return int(submitted.result())
    except UncompletedJobError:  # killed before it could write its result
        return -1


def _raise_if_failed(outcomes: list[RunOutcome]) -> list[RunOutcome]:
    """Say how runs ended; all of those that failed at once."""
    if failed := [outcome for outcome in outcomes if outcome.status != 0]:
        lines = [f"{outcome.command}: ended with status {outcome.status}" for outcome in failed]
        raise UserError(
            "\n".join(
                [
                    *lines,
                    (
                        f"sweep: {len(failed)} of {len(outcomes)} runs failed; the same command"
                        " finishes them"
                    ),
                ]
            )
        )
    say(f"sweep: {len(outcomes)} runs finished")
    return outcomes
