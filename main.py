"""The original's command lines: `python main.py pretrain=base`, `... finetune=base
finetune.rng_seeding.seed=0`, and the others.

Each group becomes one of our stages; several groups in one command run in the order of the stages.
The corpora are looked for in data/tuev and data/chbmit unless `source=DIR` says where. All other
words are ours (`eegdm STAGE --settings`).
"""

from __future__ import annotations

import sys

from eegdm.compose import choices, compose
from eegdm.config import Config, did_you_mean, leaves
from eegdm.console import run_main, say
from eegdm.errors import UserError
from eegdm.stages import run_stage

# original group -> our stage; `extra` names what to do itself
STAGE = {
    "preprocessing": "preprocess",
    "pretrain": "pretrain",
    "cache": "cache",
    "finetune": "finetune",
    "report": "report",
}
# extra=NAME -> (stage, recipe)
EXTRA = {
    "reduce_sampling": ("report", "base"),
    "no_fusion": ("finetune", "no_fusion"),
    "report_no_fusion": ("report", "no_fusion"),
    "mean_fusion": ("finetune", "mean_fusion"),
    "report_mean_fusion": ("report", "mean_fusion"),
}
# the original's names of configurations where ours differ
RECIPE = {
    "pretrain": "base",
    "faithful": "base",
    "base_chbmit": "base_chbmit_bin_filt",
    "base_chbmit_bin": "base_chbmit_bin_filt",
}
# the original's settings below a group -> ours
SETTING = {"rng_seeding.seed": "run.seed", "checkpoint": "run.classifiers", "rate": "run.rate"}


def translate(words: list[str]) -> list[tuple[str, list[str]]]:
    """Return (stage, words) of each of our commands that an original command line stands for, in
    order.
    """
    groups = {k: v for k, _, v in (w.partition("=") for w in words) if k in STAGE or k == "extra"}
    rest = [w for w in words if w.partition("=")[0] not in groups]
    refused = next((w for w in rest if w.lstrip("+~").startswith("extra.target")), None)
    if refused:
        raise UserError(
            f"{refused}: names code to load; nothing is run by name here. Use"
            f" extra={', '.join(EXTRA)}, or the Python functions"
        )
    if not groups:
        raise UserError(
            f"say what to do: {', '.join(f'{g}=NAME' for g in STAGE)} or extra=NAME; for example"
            " pretrain=base"
        )
    commands = [
        _command(group, groups[group], rest) for group in (*STAGE, "extra") if group in groups
    ]
    return [c for command in commands for c in _with_recordings(command)]


def _command(group: str, name: str, rest: list[str]) -> tuple[str, list[str]]:
    if group == "extra":
        if name not in EXTRA:
            raise UserError(
                f"extra={name}: there are {', '.join(EXTRA)}{did_you_mean(name, EXTRA)}"
            )
        stage, recipe = EXTRA[name]
    else:
        stage, recipe = STAGE[group], RECIPE.get(name, name)
    if recipe not in choices("recipe"):
        raise UserError(
            f"{group}={name}: there are"
            f" {', '.join(choices('recipe'))}{did_you_mean(name, choices('recipe'))}"
        )
    corpus = "chbmit" if "chbmit" in recipe else "tuev"
    words = [
        f"corpus={corpus}",
        f"recipe={recipe}",
        *(translated for w in rest if (translated := _setting(w, group))),
    ]
    if corpus == "chbmit" and not any(w.startswith(("compat=", "run.compat=")) for w in words):
        words.append(
            "compat=published"
        )  # the published CHB-MIT classifier was trained with the published errors
    if (
        corpus == "chbmit"
        and stage in ("cache", "finetune")
        and (run := compose(words).run).backbone is None
    ):
        words.append(f"backbone={run.root}/tuev/base/backbone")  # pretrained on TUEV, as published
    return stage, words


def _setting(word: str, group: str) -> str | None:
    """Return our form of a word, or None if it belongs to another group."""
    key, equals, value = word.partition("=")
    head, _, tail = key.partition(".")
    if head in (*STAGE, "extra") and not _is_ours(key):
        if tail not in SETTING:
            raise UserError(
                f"{word}: no such setting of the original; known are"
                f" {', '.join(f'{head}.{s}' for s in SETTING)}"
            )
        return (
            f"{SETTING[tail]}{equals}{_paths(value) if tail == 'checkpoint' else value}"
            if head == group
            else None
        )
    return word


def _paths(value: str) -> str:
    """Quote each path of a list such as ["a", "b"] whose quotes the shell has taken away."""
    paths = (path.strip().strip("\"'") for path in value.strip("[]").split(","))
    return "[" + ",".join(f'"{path}"' for path in paths) + "]"


def _is_ours(key: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name, _, _ in leaves(Config()))


def _with_recordings(command: tuple[str, list[str]]) -> list[tuple[str, list[str]]]:
    """Put the corpus's folder into preprocessing; CHB-MIT, for which the original has no such
    command, is preprocessed before caching.
    """
    stage, words = command
    corpus = words[0].partition("=")[2]
    source = [] if compose(words).corpus.source else [f"source=data/{corpus}"]
    if stage == "preprocess":
        return [(stage, [*words, *source])]
    if corpus == "chbmit" and stage == "cache":
        return [("preprocess", [*words, *source]), command]
    return [command]


def main() -> None:
    """Run the command line."""
    for stage, words in translate(sys.argv[1:]):
        say(f"$ eegdm {stage} {' '.join(words)}")
        run_stage(stage, words)


if __name__ == "__main__":
    run_main(main)
