"""The paper's tables as plans: which commands a table needs, what they share, and the finished
table beside the published one.

A plan is a list of stage commands, each one that a user could type. What several rows of a table
share (recordings, a backbone, latents) is one step of it, found the way :mod:`eegdm.layout` shares
folders: same settings, made from the same. Finished steps are left alone, so that a killed plan
resumes when it is run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from eegdm import artifacts
from eegdm.compose import compose
from eegdm.config import Config, did_you_mean, leaves, with_settings
from eegdm.console import say
from eegdm.errors import UserError
from eegdm.layout import content_config, finished_classifiers, own_folder

PUBLISHED = Path(__file__).parent / "published.yaml"
SEEDS = (0, 1, 2, 3, 4)
BACKBONE_RECIPE = "base"  # whose backbone, pretrained on TUEV, reads CHB-MIT
_SEED_WORDS = ("seed", "run.seed")
_SIZED = ("backbone", "diffusion", "pretrain", "fusion", "finetune")
_COUNTED = 20  # blocks that published ranges of blocks are of


@dataclass(frozen=True)
class Row:
    """A row of a table of the paper."""

    label: str
    recipe: str
    rate: float = 1.0
    words: tuple[str, ...] = ()
    published: tuple[tuple[float, ...] | None, ...] = ()
    """For each score of the table mean and standard deviation, the mean alone, or None."""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper."""

    name: str
    title: str
    scores: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass
class Step:
    """A command of a plan."""

    stage: str
    words: list[str]
    kind: str
    folder: Path
    config: Config
    recipes: list[str] = field(default_factory=list)
    """The recipes that need it."""

    @property
    def finished(self) -> bool:
        """Whether its folder is there; a report is finished if it is about all classifiers that are
        there now.
        """
        if not artifacts.is_finished(self.folder):
            return False
        if self.kind != "report":
            return True
        summary = artifacts.open_artifact(self.folder, "report").summary
        reported = {*summary["classifiers"].values(), *summary.get("left_out", {}).values()}
        return {
            artifacts.open_artifact(p).fingerprint
            for p in finished_classifiers(self.config, self.config.recipe)
        } <= reported

    @property
    def command(self) -> str:
        return f"eegdm {self.stage} {' '.join(self.words)}"


@cache
def tables() -> dict[str, PaperTable]:
    """Read the published tables, by name."""
    from yaml import safe_load

    return {
        name: _parse_table(name, table)
        for name, table in safe_load(PUBLISHED.read_text(encoding="utf-8"))["tables"].items()
    }


def _parse_table(name: str, table: dict[str, Any]) -> PaperTable:
    return PaperTable(
        name,
        table["title"],
        tuple(table["scores"]),
        tuple(_parse_row(row) for row in table["rows"]),
    )


def _parse_row(row: dict[str, Any]) -> Row:
    numbers = tuple(None if score is None else tuple(score) for score in row.get("published", ()))
    return Row(**{**row, "words": tuple(row.get("words", ())), "published": numbers})


def _composed(words: Iterable[str]) -> Config:
    """Compose words, the same ones once: a plan asks for most of them several times."""
    return deepcopy(_composed_once(tuple(words)))


@cache
def _composed_once(words: tuple[str, ...]) -> Config:
    return compose(list(words))


def sized(recipe: str) -> list[str]:
    """Return the words that give every recipe the sizes and training of one, such as `small`: where
    it differs from `base`.
    """
    settings, base = (
        dict((name, value) for name, _, value in leaves(_composed([f"recipe={r}"])))
        for r in (recipe, BACKBONE_RECIPE)
    )
    return [
        f"{name}={'null' if value is None else value}".replace("'", "")
        for name, value in settings.items()
        if value != base[name] and name.partition(".")[0] in _SIZED
    ]


def find_table(name: str, recipes: Sequence[str] = ()) -> PaperTable:
    """Return a table by its name, with the rows of these recipes only if any are given.

    Raises:
        UserError: there is none such, or it has no row of a recipe.
    """
    if name not in tables():
        raise UserError(
            f"reproduce {name}: there are {', '.join(tables())}{did_you_mean(name, tables())}"
        )
    table = tables()[name]
    known = {row.recipe: None for row in table.rows}
    for recipe in recipes:
        if recipe not in known:
            raise UserError(
                f"reproduce {name}: its rows are of {', '.join(known)}, none of"
                f" {recipe}{did_you_mean(recipe, known)}"
            )
    return replace(
        table, rows=tuple(row for row in table.rows if not recipes or row.recipe in recipes)
    )


# --------------------------------------------------------------------------------------- planning


def plan_steps(
    table: PaperTable, words: Sequence[str] = (), sources: dict[str, str] | None = None
) -> list[Step]:
    """List the commands that a table needs, in order, each once.

    Args:
        words: settings for all of them, such as `root=DIR` or `corpus=synthetic` (in place of
            tuev); `seed=0,1` says which seeds are trained.
        sources: folder of the raw recordings, by corpus.

    Raises:
        UserError: settings that no run can have.
    """
    rest, seeds = _without_seeds(words)
    steps: dict[str, Step] = {}
    for row in table.rows:
        typed = _typed(table, row, rest)
        for stage, kind, command_words in _commands(table, row, typed, rest, seeds):
            _add(steps, row, stage, kind, command_words, sources or {})
    return list(steps.values())


def _without_seeds(words: Iterable[str]) -> tuple[list[str], list[int]]:
    """Take the word that names the seeds from the others."""
    rest, seeds = [], list(SEEDS)
    for word in words:
        key, _, value = word.partition("=")
        if key not in _SEED_WORDS:
            rest.append(word)
        elif not all(part.strip().isdigit() for part in value.split(",")):
            raise UserError(f"{word}: write seeds as whole numbers, as in seed=0,1,2")
        else:
            seeds = [int(part) for part in value.split(",")]
    return rest, seeds


def _typed(table: PaperTable, row: Row, words: list[str]) -> list[str]:
    """The words of a row's commands."""
    corpus = ["corpus=chbmit"] if table.name == "chbmit" else _corpus_words(words)
    return [
        *corpus,
        f"recipe={row.recipe}",
        *row.words,
        *_without_corpus(words),
        *_scaled_words(row, words),
    ]


def _corpus_words(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("corpus=")] or ["corpus=tuev"]


def _without_corpus(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("corpus=")]


def _scaled_words(row: Row, words: list[str]) -> list[str]:
    """Words that fit a recipe's range of blocks and its deeper stack, published for 20 blocks, to a
    smaller network.

    The first half of 8 blocks is 0..4; and the stack that stands in for fused blocks grows by the
    same share.
    """
    published, base = (
        _composed(["corpus=tuev", f"recipe={name}"]).fusion
        for name in (row.recipe, BACKBONE_RECIPE)
    )
    changed = [
        key
        for key in ("first_block", "last_block", "depth")
        if getattr(published, key) != getattr(base, key)
    ]
    if not changed:
        return []
    typed = _composed([*_corpus_words(words), f"recipe={BACKBONE_RECIPE}", *_without_corpus(words)])
    share = typed.backbone.n_blocks / _COUNTED
    values = {
        "first_block": round(published.first_block * share),
        "last_block": round((published.last_block or _COUNTED) * share),
        "depth": typed.fusion.depth + round((published.depth - base.depth) * share),
    }
    return [f"fusion.{key}={values[key]}" for key in changed]


def _commands(
    table: PaperTable, row: Row, typed: list[str], words: list[str], seeds: list[int]
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield stage, kind and words of what a row needs, whatever of it is there or shared."""
    config = _composed(typed)
    if table.name == "chbmit" and config.run.backbone is None:
        on_tuev = [*_corpus_words(words), f"recipe={BACKBONE_RECIPE}", *_without_corpus(words)]
        yield "preprocess", "recordings", on_tuev
        yield "pretrain", "backbone", on_tuev
        typed = [*typed, f"backbone={own_folder(_composed(on_tuev), 'backbone')}"]
        config = _composed(typed)
    if config.run.recordings is None:
        yield "preprocess", "recordings", typed
    if config.run.backbone is None:
        yield "pretrain", "backbone", typed
    if config.latents.cached and config.run.latents is None:
        yield "cache", "latents", typed
    for seed in seeds:
        yield "finetune", "classifier", [*typed, f"seed={seed}"]
    yield "report", "report", typed if row.rate == 1.0 else [*typed, f"rate={row.rate:g}"]


def _add(
    steps: dict[str, Step],
    row: Row,
    stage: str,
    kind: str,
    words: list[str],
    sources: dict[str, str],
) -> None:
    """Put a command into the plan, or its recipe to the step that does it already."""
    config = _composed(words)
    corpus, folder = config.corpus.name, own_folder(config, kind)
    if stage == "preprocess" and config.corpus.source is None and corpus in sources:
        words = [*words, f"source={sources[corpus]}"]
    made_of = [step.folder for step in steps.values() if _feeds(step, config, kind, row)]
    shared = kind not in ("classifier", "report")
    what: Any = content_config(config, kind) if shared else str(folder)
    chosen = config.run.backbone if kind == "latents" else None
    key = artifacts.fingerprint(
        [kind, corpus, str(config.run.root), what, [str(f) for f in made_of], chosen]
    )
    step = steps.setdefault(key, Step(stage, words, kind, folder, config))
    if row.recipe not in step.recipes:
        step.recipes.append(row.recipe)


def _feeds(step: Step, config: Config, kind: str, row: Row) -> bool:
    """Whether a step's folder is an input of a command of this kind and row."""
    inputs = {"backbone": ("recordings",), "latents": ("recordings", "backbone")}.get(kind, ())
    return (
        step.kind in inputs
        and step.config.corpus.name == config.corpus.name
        and row.recipe in step.recipes
    )


# ---------------------------------------------------------------------------------------- running


def run_table(
    table: PaperTable, words: Sequence[str] = (), sources: dict[str, str] | None = None
) -> Path:
    """Run what is not finished of a table's plan, print the table beside the published one, and
    return where it was written.

    Raises:
        UserError: raw recordings are needed and nobody said where they are; or what a stage
            refuses.
    """
    from eegdm.stages import run_stage

    steps = plan_steps(table, words, sources)
    _require_sources(table, steps)
    for number, step in enumerate(steps, 1):
        say(f"\n[{number}/{len(steps)}] {step.command}")
        if step.kind == "report" and step.finished:
            say(f"report: {step.folder} is finished")
        else:
            # A stage that is finished says so, or refuses a folder made with other settings.
            run_stage(step.stage, step.words)
    return write_results(table, words)


def _require_sources(table: PaperTable, steps: list[Step]) -> None:
    for step in steps:
        if step.stage != "preprocess" or step.finished:
            continue
        name = step.config.corpus.name
        has_source = any(word.startswith(("source=", "corpus.source=")) for word in step.words)
        if name != "synthetic" and not has_source:
            raise UserError(
                f"reproduce {table.name}: say where the recordings of {name} are with --{name} DIR"
            )


def write_results(table: PaperTable, words: Sequence[str]) -> Path:
    """Write a table, ours beside the published, as `<root>/tables/<table>.md`, and print it."""
    from eegdm.report.pages import Section, Table, write_markdown

    rest, _ = _without_seeds(words)
    configs = [_composed(_typed(table, row, rest)) for row in table.rows]
    rows = [
        cells
        for row, config in zip(table.rows, configs, strict=True)
        for cells in _result_rows(table, row, config)
    ]
    header = [
        "",
        *(
            f"{name.replace('_', ' ')}, {whose}"
            for name in table.scores
            for whose in ("ours", "published")
        ),
    ]
    caption = (
        f"x100, mean ± population standard deviation over seeds. Published: {_source()}. Ours on"
        f" corpus={configs[0].corpus.name}."
    )
    path = Path(configs[0].run.root) / "tables" / f"{table.name}.md"
    write_markdown(
        path, table.title, [Section("Ours beside the published", [Table(header, rows, caption)])]
    )
    say(f"\n{path.read_text(encoding='utf-8')}\nreproduce: wrote {path}")
    return path


def _source() -> str:
    from yaml import safe_load

    return str(safe_load(PUBLISHED.read_text(encoding="utf-8"))["source"])


def _result_rows(table: PaperTable, row: Row, config: Config) -> Iterator[list[str]]:
    at_rate = with_settings(config, {"run.rate": row.rate})
    numbers = artifacts.read_json(own_folder(at_rate, "report") / "report.json")
    published = row.published or (None,) * len(table.scores)
    runs = len(numbers["runs"])
    yield [
        f"{row.label} ({runs} {'seed' if runs == 1 else 'seeds'})",
        *_ours_and_published(numbers["summary"], runs, published, table.scores),
    ]
    if row.rate == 1.0:
        for name, baseline in numbers["baselines"].items():
            if row is table.rows[0] or name == "linear probe":
                nothing = (None,) * len(table.scores)
                yield [
                    f"{row.label}: {name}",
                    *_ours_and_published(
                        baseline["summary"], len(baseline["scores"]), nothing, table.scores
                    ),
                ]


def _ours_and_published(
    summary: dict[str, Any],
    runs: int,
    published: Sequence[tuple[float, ...] | None],
    names: Sequence[str],
) -> Iterator[str]:
    for name, theirs in zip(names, published, strict=True):
        mean, std = summary[name]["mean"], summary[name]["std"]
        yield "–" if mean is None else _cell((mean, std) if runs > 1 else (mean,))
        yield "–" if theirs is None else _cell(theirs)


def _cell(mean_and_spread: Sequence[float]) -> str:
    return " ± ".join(f"{number:.2f}" for number in mean_and_spread)
