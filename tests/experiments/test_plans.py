"""The paper's tables: their numbers are the documented ones, their plans share what they can, and
each runs through.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT
from eegdm import artifacts
from eegdm.compose import compose
from eegdm.data.synthetic.layouts import write_tuev
from eegdm.errors import UserError
from eegdm.experiments import plans
from eegdm.experiments.costs import cost, describe_costs
from eegdm.experiments.plans import find_table, plan_steps, sized, tables
from stages.tiny import SIZES, write_corpora
from test_compose import PUBLISHED

NAMES = [
    "main",
    "mu_law_schedule_noise",
    "steps",
    "pooling",
    "layers",
    "fusion",
    "chbmit",
    "sampling_rate",
]
TINY = [
    *SIZES,
    "backbone.n_blocks=4",
    "finetune.epochs=1",
    "pretrain.epochs=1",
    "pretrain.samples=0",
]


def stages(steps: list[plans.Step]) -> list[str]:
    return [step.stage for step in steps]


def test_all_tables_are_there_and_hold_every_published_recipe() -> None:
    assert list(tables()) == NAMES
    assert {row.recipe for table in tables().values() for row in table.rows} == PUBLISHED - {
        "base_chbmit"
    } | {"random_weights"}


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_are_those_of_the_table_of_recipes(name: str) -> None:
    documented = (ROOT / "docs" / "recipes.md").read_text()
    for row in find_table(name).rows:
        numbers = [n for n in row.published if n is not None]
        text = " / ".join("±".join(f"{value:.2f}" for value in n) for n in numbers)
        rate = f"tested at {round(200 * row.rate)} Hz: " if row.rate != 1 else ""
        line = rf"^\| `{row.recipe}` \|[^|]*{rate}[^|]*{re.escape(text)} "
        assert not numbers or re.search(line, documented, re.MULTILINE), (row.label, text)


def test_a_plan_makes_each_shared_part_once(tmp_path: Path) -> None:
    words = [f"root={tmp_path}", "seed=0,1"]
    assert stages(plan_steps(find_table("main"), words)) == [
        *("preprocess", "pretrain", "cache", "finetune", "finetune", "report"),
        *("cache", "finetune", "finetune", "report"),
    ]
    fused = plan_steps(find_table("fusion"), words)
    assert stages(fused) == [
        "preprocess",
        "pretrain",
        "cache",
        *["finetune", "finetune", "report"] * 3,
    ]
    assert fused[2].recipes == ["base", "no_fusion", "mean_fusion"]
    noise = plan_steps(find_table("mu_law_schedule_noise"), words)
    made = [
        (step.stage, step.recipes)
        for step in noise
        if step.stage in ("preprocess", "pretrain", "cache")
    ]
    assert made == [
        ("preprocess", ["base", "nolaw", "linear", "noise"]),
        ("pretrain", ["base", "noise"]),
        ("cache", ["base"]),
        ("pretrain", ["nolaw"]),
        ("cache", ["nolaw"]),
        ("pretrain", ["linear"]),
        ("cache", ["linear"]),
    ]
    assert stages(plan_steps(find_table("sampling_rate"), words)) == [
        *stages(plan_steps(find_table("main"), words))[:6],
        "report",
        "report",
    ]


def test_chbmit_stands_on_the_backbone_of_tuev_and_on_the_published_choices(tmp_path: Path) -> None:
    steps = plan_steps(find_table("chbmit"), [f"root={tmp_path}"], {"tuev": "T", "chbmit": "C"})
    assert stages(steps) == [
        "preprocess",
        "pretrain",
        "preprocess",
        "cache",
        *["finetune"] * 5,
        "report",
    ]
    assert [step.words[-1] for step in steps if step.stage == "preprocess"] == [
        "source=T",
        "source=C",
    ]
    assert all(f"backbone={tmp_path}/tuev/base/backbone" in step.words for step in steps[3:])
    config = steps[4].config
    assert (config.run.compat, config.windows.labels, config.signal.per_window) == (
        "published",
        "published",
        True,
    )
    assert steps[1].config.run.compat is None


def test_a_smaller_network_keeps_the_shares_of_its_blocks(tmp_path: Path) -> None:
    steps = plan_steps(
        find_table("layers"),
        [f"root={tmp_path}", "backbone.n_blocks=8", "fusion.depth=2", "seed=0"],
    )
    ranges = {s.recipes[0]: s.config.fusion for s in steps if s.stage == "finetune"}
    found = {name: (f.first_block, f.last_block, f.depth) for name, f in ranges.items()}
    assert found == {
        "base": (0, None, 2),
        "base_firsthalf": (0, 4, 8),
        "base_secondhalf": (4, None, 8),
        "base_firstquarter": (0, 2, 10),
        "base_secondquarter": (2, 4, 10),
        "base_thirdquarter": (4, 6, 10),
        "base_forthquarter": (6, None, 10),
    }
    full = plan_steps(find_table("layers"), [f"root={tmp_path}", "seed=0"])
    for step in full:
        published = compose(["corpus=tuev", f"recipe={step.recipes[0]}"]).fusion
        assert (step.config.fusion.depth, step.config.fusion.first_block) == (
            published.depth,
            published.first_block,
        )


def test_the_sizes_of_a_recipe_are_all_that_differs_from_it(tmp_path: Path) -> None:
    small, ours = compose(["recipe=small"]), compose(["recipe=base", *sized("small")])
    for section in ("backbone", "diffusion", "pretrain", "latents", "fusion", "finetune"):
        assert getattr(ours, section) == getattr(small, section)


@pytest.mark.parametrize(
    ("table", "words", "said"),
    [
        ("layer", [], 'did you mean "layers"'),
        ("main", ["seed=a"], "whole numbers"),
        ("main", ["fusion.dpth=1"], "fusion.depth"),
    ],
)
def test_what_can_not_be_planned_is_told_in_a_line(table: str, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        plan_steps(find_table(table), words)


def test_raw_recordings_that_nobody_named_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="with --tuev DIR"):
        plans.run_table(find_table("main"), [f"root={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_rows_of_some_recipes_alone() -> None:
    table = find_table("fusion", ["base", "mean_fusion"])
    assert [row.recipe for row in table.rows] == ["base", "mean_fusion"] and find_table(
        "fusion"
    ) == find_table("fusion", [])
    assert not any(
        "no_fusion" in word
        for step in plan_steps(table, ["root=x", "seed=0", "corpus=synthetic"])
        for word in step.words
    )
    with pytest.raises(UserError, match='none of mean_fusoin; did you mean "mean_fusion"'):
        find_table("fusion", ["base", "mean_fusoin"])


def test_a_dry_run_tells_disk_and_time_and_makes_nothing(tmp_path: Path) -> None:
    write_tuev(tmp_path / "tuev", n_train=2, n_eval=1, minutes=1.2)
    words = [
        f"root={tmp_path / 'runs'}",
        "seed=0",
        "backbone.n_blocks=4",
        "backbone.d_model=8",
        "backbone.d_state=4",
        "fusion.n_heads=2",
    ]
    steps = plan_steps(find_table("main"), words, {"tuev": str(tmp_path / "tuev")})
    *lines, total = describe_costs(steps)
    assert (
        len(lines) == 1 + len(steps)
        and "7 of 7" not in total
        and total.startswith(f"{len(steps)} of {len(steps)} steps to do: about")
    )
    assert not (tmp_path / "runs").exists()
    size = experiments_size(steps)
    assert size.seconds == 3 * 72 and size.channels == 22
    assert cost(steps[0], size).disk == 4 * 3 * 72 * 200 * 22
    assert 0 < cost(steps[0], size).seconds < 60
    assert (
        cost(steps[2], size).disk == 2 * 4 * 5 * 8 * 22 * size.windows
    )  # float16, 4 blocks, 5 pools, width 8, 22 channels


def experiments_size(steps: list[plans.Step]):
    from eegdm.experiments.costs import corpus_size

    return corpus_size(steps[0])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root for all tables, so that later ones find what earlier ones made, and two made-up
    corpora.
    """
    folder = tmp_path_factory.mktemp("tables")
    write_corpora(folder)
    return folder


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_each_table_runs_through_and_is_finished_when_run_again(root: Path, name: str) -> None:
    table, words = find_table(name), [f"root={root / 'runs'}", *TINY, "seed=0"]
    sources = {"tuev": str(root / "tuev"), "chbmit": str(root / "chbmit")}
    path = plans.run_table(table, words, sources)
    steps = plan_steps(table, words, sources)
    assert all(step.finished for step in steps)
    assert all(artifacts.verify(step.folder) == [] for step in steps)
    text = path.read_text()
    for row in table.rows:
        (line,) = [
            line for line in text.splitlines() if line.startswith(f"| {row.label} (1 seed) |")
        ]
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        ours, theirs = cells[::2], cells[1::2]
        assert not any("±" in cell for cell in ours), "one run has no spread"
        assert theirs == [
            " ± ".join(f"{v:.2f}" for v in n) if n else "–"
            for n in row.published or [None] * len(table.scores)
        ]
    with pytest.raises(UserError, match="fusion.n_tokens|backbone.n_blocks|was made with"):
        plans.run_table(table, [*words, "backbone.d_cond=16"], sources)
    before = {
        p: p.stat().st_mtime_ns
        for p in (root / "runs").rglob("*")
        if p.is_file() and p != path and not p.name.startswith(".")
    }
    plans.run_table(table, words, sources)
    assert {p: p.stat().st_mtime_ns for p in before} == before
