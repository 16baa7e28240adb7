"""Settings: every fault at once, in words; recipes say what differs."""

from __future__ import annotations  # noqa: I001

import re
import subprocess
import sys

import pytest

from eegdm.compose import choices, compose, expand_sweep, explained_settings
from eegdm.config import SHORT, check_resolved, Config, leaves
from eegdm.errors import UserError

PUBLISHED = {
    "base",
    "linear",
    "nolaw",
    "base_t0",
    "base_t1",
    "base_t2",
    "base_filters",
    "base_filterm",
    "base_gatem",
    "base_firsthalf",
    "base_secondhalf",
    "base_firstquarter",
    "base_secondquarter",
    "base_thirdquarter",
    "base_forthquarter",
    "noise",
    "no_fusion",
    "mean_fusion",
    "base_chbmit",
    "base_chbmit_bin_filt",
}
OURS = {"small", "lite", "demo", "demo_random", "random_weights", "mini_a", "people"}


def test_the_recipes_are_all_there() -> None:
    assert set(choices("recipe")) == PUBLISHED | OURS


@pytest.mark.parametrize("recipe", sorted(PUBLISHED | OURS))
def test_every_recipe_composes_and_names_itself(recipe: str) -> None:
    assert compose([f"recipe={recipe}"]).recipe == recipe


@pytest.mark.parametrize("corpus", choices("corpus"))
def test_every_corpus_composes(corpus: str) -> None:
    assert compose([f"corpus={corpus}"]).corpus.name == corpus


def test_base_is_the_published_configuration() -> None:
    c = compose(["recipe=base", "corpus=tuev"])
    assert (c.backbone.d_model, c.backbone.n_blocks, c.backbone.d_state, c.diffusion.n_steps) == (
        128,
        20,
        128,
        50,
    )
    assert (c.pretrain.batch_size, c.pretrain.epochs, c.pretrain.lr, c.pretrain.grad_clip) == (
        108,
        100,
        1e-4,
        1.0,
    )
    assert (
        c.finetune.batch_size,
        c.finetune.max_lr,
        c.finetune.epochs,
        c.finetune.patience,
        c.finetune.patience_from,
    ) == (
        256,
        5e-4,
        50,
        3,
        20,
    )
    assert (c.windows.edge, c.windows.split, c.signal.notch, c.latents.query, c.latents.pool) == (
        "wrap",
        "published",
        [50.0],
        ["gate"],
        ["std"],
    )


def test_chbmit_recipes_bring_their_corpus() -> None:
    c = compose(["recipe=base_chbmit_bin_filt"])
    assert (
        c.corpus.name,
        c.finetune.loss,
        c.finetune.pos_weight,
        c.windows.duration_s,
        c.signal.montage,
    ) == (
        "chbmit",
        "binary",
        150.51,
        10,
        "chbmit",
    )


def test_all_faults_are_told_at_once_with_suggestions() -> None:
    with pytest.raises(UserError) as error:
        compose(["recipe=bse", "latnts.step=1", "pretrain.lr=fast", "seed", "windows=grid"])
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    assert 'did you mean "base"?' in lines[0] and 'did you mean "latents.step"?' in lines[1]
    assert "pretrain.lr" in lines[2] and "key=value" in lines[3] and "windows.policy" in lines[4]


def test_values_out_of_range_and_contradictions_are_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        compose(
            [
                "latents.query=[gat]",
                "windows.duration_s=-1",
                "latents.forward=noisy",
            ]
        )
    text = str(error.value)
    assert (
        'did you mean "gate"?' in text and "0.5 to 600 s" in text and "latents.cached=false" in text
    )


def test_contradictions_with_inputs_are_those_of_the_stage_that_reads_them() -> None:
    """They are checked once the inputs are open, on what will really be used."""
    config = compose(["latents.step=90", "fusion.n_heads=7"])
    with pytest.raises(UserError, match=r"is 49\n.*must divide backbone.d_model"):
        check_resolved(config, "finetune")
    with pytest.raises(UserError, match="is 49$"):
        check_resolved(config, "cache")
    assert check_resolved(config, "pretrain") is config


def test_short_names_are_the_long_ones() -> None:
    c = compose(
        [
            "seed=3",
            "root=a b",
            "backbone=x/y.ckpt",
            "backbone.d_model=64",
            "split=kfold",
            "labels=published",
        ]
    )
    assert (
        c.run.seed,
        c.run.root,
        c.run.backbone,
        c.backbone.d_model,
        c.windows.split,
        c.windows.labels,
    ) == (3, "a b", "x/y.ckpt", 64, "kfold", "published")
    assert c.explicit == [
        "run.seed",
        "run.root",
        "run.backbone",
        "backbone.d_model",
        "windows.split",
        "windows.labels",
    ]


def test_a_path_where_a_list_is_wanted_is_a_list_of_one() -> None:
    path = "runs/tuev/base/classifier/fold=1,seed=0"
    assert compose([f"classifiers={path}"]).run.classifiers == [path]
    assert compose(["classifiers=['a=b/c', d]"]).run.classifiers == ["a=b/c", "d"]


def test_a_sweep_names_all_its_runs() -> None:
    assert expand_sweep(["recipe=small", "seed=0,1", "windows.fold=1,2"]) == [
        ["recipe=small", f"run.seed={s}", f"windows.fold={f}"] for s in (0, 1) for f in (1, 2)
    ]


TEXTS = [
    *("1e5", "07", "1_000", "yes", "True", "null0", "{e}", "${x}", "[x", "#1", "a:b", "a=b"),
    *("a(b)", "a, b", " a", "é&ü;!", "~/x", "a\\b", "(?P<subject>s\\d{1,2})"),
    *("O'Brien's \"disk\"", "'a' and 'b'"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_what_was_typed_whatever_it_looks_like(text: str) -> None:
    for name in ("source", "run.root", "corpus.pattern"):
        typed = f"{name}={text}"
        config = compose([typed])
        found = {"source": config.corpus.source, "run.root": config.run.root}
        assert found.get(name, config.corpus.pattern) == text
    quoted = text.replace("'", "\\'")
    assert compose([f"root='{quoted}'"]).run.root == text
    assert compose([f"root='{quoted}'"]).explicit == ["run.root"]


def test_null_is_nothing_where_nothing_is_possible_and_else_a_text() -> None:
    assert compose(["source=null"]).corpus.source is None
    assert compose(["source='null'"]).corpus.source == "null"
    assert compose(["root=null"]).run.root == "null"
    assert compose(["windows.step_s=null"]).windows.step_s is None


def test_lists_of_texts_keep_their_texts() -> None:
    def classes(value: str) -> list[str]:
        return compose([f"corpus.classes={value}"]).corpus.classes

    assert classes("[1, 1e5, null, on, {e}]") == ["1", "1e5", "null", "on", "{e}"]
    assert classes("""['a, b', "c's", d (e, f)]""") == ["a, b", "c's", "d (e, f)"]
    assert compose(["compare=linear,nolaw"]).run.compare == ["linear", "nolaw"]
    assert compose(["latents.query=[gate, filter]", "latents.pool=[std,std]"]).latents.query == [
        "gate",
        "filter",
    ]
    assert compose(["classifiers=[]"]).run.classifiers == []
    with pytest.raises(UserError, match="is not closed; write it as"):
        classes("[a, 'b]")


def test_a_sweep_takes_ranges_and_choices_lists_and_quoted_texts() -> None:
    assert expand_sweep(["seed=range(0,3)"]) == [[f"run.seed={n}"] for n in range(3)]
    assert expand_sweep(["fold=choice(0,2)"]) == [["windows.fold=0"], ["windows.fold=2"]]
    assert expand_sweep(["recipe=choice(base,linear)"]) == [["recipe=base"], ["recipe=linear"]]
    assert expand_sweep(["latents.query=[gate],[gate,filter]"]) == [
        ["latents.query=[gate]"],
        ["latents.query=[gate,filter]"],
    ]
    assert expand_sweep(["root='a, b',c", "classifiers=x/fold=1,seed=0"]) == [
        ["run.root='a, b'", "run.classifiers=x/fold=1,seed=0"],
        ["run.root=c", "run.classifiers=x/fold=1,seed=0"],
    ]
    pattern = r"corpus.pattern=(?P<subject>s\d{1,2}),(?P<run>\d)"
    assert expand_sweep([pattern]) == [
        [r"corpus.pattern=(?P<subject>s\d{1,2})"],
        [r"corpus.pattern=(?P<run>\d)"],
    ]
    maps = "corpus.label_map={a: b, c: d}"
    assert expand_sweep([maps]) == [[maps]]
    for word in ("seed=interval(0,1)", "recipe=glob(*)", "seed=range(", "seed=f(1)"):
        with pytest.raises(UserError, match="write several values as"):
            expand_sweep([word])


def test_several_values_without_multirun_are_refused_with_what_runs_them() -> None:
    for word in ("seed=0,1", "seed=range(0,3)", "recipe=base,linear"):
        with pytest.raises(UserError, match="run one after the other by -m"):
            compose([word])


def test_defaults_with_an_unbalanced_quote_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEGDM_DEFAULTS", "root='a b device=cpu")
    with pytest.raises(UserError, match="^EEGDM_DEFAULTS=.*no closing quotation; quote as in"):
        compose([])
    monkeypatch.setenv("EEGDM_DEFAULTS", "root='a b' device=cpu")
    assert compose([]).run.root == "a b" and compose(["root=c"]).run.root == "c"


def test_every_setting_explains_itself() -> None:
    advice = r"(Change it|Larger values|Smaller values|Give it|Leave it|Published|=NAME sets)"
    for name, field, _ in leaves(Config()):
        assert field.metadata["help"], name
        assert re.search(advice, field.metadata["advice"]), name
        assert field.metadata["advice"].endswith("."), name


def test_settings_are_listed_with_limits_and_advice() -> None:
    rows = {name: (value, texts) for name, value, texts in explained_settings(("signal", "run"))}
    assert all(name.startswith(("signal.", "run.")) for name in rows)
    default, (what, advice) = rows["signal.highpass"]
    assert default == 0.1
    assert what == "lower edge of the band-pass [0.01 to 10 Hz]"
    assert advice.startswith("Published: 0.1 for TUEV, 0.5 for CHB-MIT. Larger values")
    assert rows["signal.missing"][1][0].endswith(" [error | drop]")
    assert rows["run.seed"][1][0].endswith(" [0 to 2147483647]")


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import eegdm"], ["-m", "eegdm", "--help"], ["-m", "eegdm", "pretrain", "--settings"]],
)
def test_starting_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = [
        "torch",
        "mne",
        "lightning",
        "diffusers",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "huggingface_hub",
    ]
    code = arguments if arguments[0] == "-m" else arguments
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *code], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr[-2000:]
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in run.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert loaded.isdisjoint(heavy), sorted(loaded & set(heavy))


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "recipe=bas"],
        ["predict", "nofile.edf", "--model", "nowhere"],
        ["info", "nowhere"],
    ],
)
def test_faults_are_one_line_and_exit_status_2(words: list[str], tmp_path) -> None:  # noqa: ANN001
    run = subprocess.run(
        [sys.executable, "-m", "eegdm", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert run.returncode == 2
    assert (
        run.stderr.startswith("eegdm: ")
        and run.stderr.count("\n") == 1
        and "Traceback" not in run.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_typed_mapping_replaces_the_default() -> None:
    assert compose(["corpus=bids"]).corpus.label_map
    assert compose(
        ["corpus=bids", "corpus.label_map={T1: task, 'T 2': task}"]
    ).corpus.label_map == {"T1": "task", "T 2": "task"}


def test_chbmit_as_published_is_filtered_window_by_window() -> None:
    assert compose(["corpus=chbmit", "compat=published"]).signal.per_window
    assert not compose(["corpus=chbmit"]).signal.per_window
    assert not compose(["corpus=tuev", "compat=published"]).signal.per_window


TEXTS = ("1e5", "{e}", "[a]", "it's", "a\\b c", "C:\\x\\", "${x}", "0x1", "yes", "~", "1_0")


@pytest.mark.parametrize(
    "name, value",
    [
        *[(name, text) for name in ("source", "table", "root", "backbone") for text in TEXTS],
        *[(name, "a,b") for name in ("source", "corpus.pattern")],
        ("corpus.pattern", "null"),
        ("corpus.source", "1e5"),
        ("run.latents", "1e5"),
    ],
)
def test_paths_and_patterns_stay_the_text_that_was_typed(name: str, value: str) -> None:
    config = compose(["corpus=folder", f"{name}={value}"])
    section, _, key = SHORT.get(name, name).partition(".")
    assert getattr(getattr(config, section), key) == value


def test_null_is_no_backbone_and_commas_divide_a_sweep() -> None:
    assert compose(["recipe=mini_a", "backbone=null"]).run.backbone is None
    assert expand_sweep(["backbone=a,b"]) == [["run.backbone=a"], ["run.backbone=b"]]


@pytest.mark.parametrize(
    "pattern", [r"(?P<subject>s\d+)_run(?P<run>\d+)", r"(?P<subject>a{1,3})$", "(?P<subject>[^']+)"]
)
def test_a_pattern_needs_no_quotes_and_keeps_those_typed(pattern: str) -> None:
    assert compose(["corpus=folder", f"corpus.pattern={pattern}"]).corpus.pattern == pattern
    if "'" not in pattern:
        quoted = compose(["corpus=folder", f"corpus.pattern='{pattern}'"])
        assert quoted.corpus.pattern == pattern
