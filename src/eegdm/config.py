"""The settings of every stage: one root dataclass, a sentence, unit and range for each field, and
the cross-checks.

Each section belongs to the stages named in its docstring; a stage stamps only its own sections into
the manifest of what it makes.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from eegdm.errors import UserError
from eegdm.tuev import TUEV_CLASSES


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare a field with the text and the limits that ``--settings`` shows and :func:`check`
    enforces.
    """
    metadata = {"help": help, "unit": unit, "choices": choices, "low": low, "high": high}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class CorpusConfig:
    """Where recordings and events come from (preprocess)."""

    name: str = option(
        "synthetic",
        "layout of the corpus",
        choices=("synthetic", "tuev", "chbmit", "folder", "bids"),
    )
    source: str | None = option(None, "folder that holds the raw recordings")
    events: str = option(
        "rec",
        "where events come from: TUEV's .rec files, CHB-MIT's summaries, a table, the files' own"
        " annotations, BIDS *_events.tsv, or nowhere (pretraining only)",
        choices=("rec", "summary", "table", "annotations", "bids", "none"),
    )
    table: str | None = option(
        None,
        "CSV, TSV or Parquet with file, onset_s, duration_s, label (channel, subject, session, run,"
        " split), in the current folder or below source=; without times, labels of whole"
        " recordings",
    )
    label_map: dict[str, str] = option(
        {},
        "text in the file -> class; events whose text is not named are left out; empty: all, as"
        " they are",
    )
    classes: list[str] = option(list(TUEV_CLASSES), "the classes, in the order of the logits")
    event_classes: list[str] = option(
        list(TUEV_CLASSES[:5]),
        "classes that `eegdm predict` marks as events; the others are background",
    )
    pattern: str = option(
        r"(?:^|/)(?:sub-)?(?P<subject>(?<=sub-)[^_./]+|S\d+(?=R\d+\.\w+$)|[^/]+?(?=(?:\.fif)?\.[^./]+$))"
        r"(?:.*[/_]ses-(?P<session>[^_./]+))?(?:(?:.*_run-|(?<=\d)R)(?P<run>[^_./]+))?",
        "regular expression, searched in the path below source=, whose groups subject, session, run"
        " say who and when (corpus=folder); as it is: sub-01_ses-02_run-03..., S001R04, else the"
        " file's name is its subject",
    )
    n_train: int = option(12, "synthetic training subjects (corpus=synthetic)", low=2, high=10_000)
    n_eval: int = option(4, "synthetic test subjects (corpus=synthetic)", low=1, high=10_000)
    minutes: float = option(4.0, "length of a synthetic recording", unit="min", low=0.5, high=1440)
    seed: int = option(0, "seed of the synthetic corpus", low=0)


@dataclass(kw_only=True)
class SignalConfig:
    """From the file's channels to model units (preprocess; mu: every reader)."""

    sfreq: float = option(
        200.0, "sampling frequency of the recordings", unit="Hz", low=100, high=1000
    )
    highpass: float = option(0.1, "lower edge of the band-pass", unit="Hz", low=0.01, high=10)
    lowpass: float = option(
        75.0,
        "upper edge of the band-pass; lowered to 0.45 of the file's sampling frequency below"
        " 160 Hz",
        unit="Hz",
        low=10,
        high=400,
    )
    notch: list[float] = option(
        [50.0], "mains frequencies to notch (published: 50)", unit="Hz", low=1, high=500
    )
    montage: str = option(
        "tcp",
        "channels: the 22 TCP pairs, the 16 of CHB-MIT, or (referential) the file's first"
        " n_referential as they are, whatever they measure, which no backbone can be given;"
        " `--channels file` of predict and embed is another thing",
        choices=("tcp", "chbmit", "referential"),
    )
    missing: str = option(
        "error",
        "a channel that can't be derived fails its recording (error), or is left out (drop)",
        choices=("error", "drop"),
    )
    n_referential: int = option(
        23, "how many of the file's channels montage=referential takes", low=1, high=1024
    )
    unit: str | None = option(
        None,
        "what the files' numbers are in, above what they say; null: as each file says",
        choices=("V", "mV", "uV"),
    )
    per_window: bool = option(
        False,
        "keep raw samples and resample, filter and compand each window when it is read, as"
        " published for CHB-MIT",
    )
    mu: float = option(
        255.0, "companding of amplitudes above 100 µV; 0 leaves them", low=0, high=10_000
    )


@dataclass(kw_only=True)
class WindowConfig:
    """How recordings are cut and divided: settings of the reader, never of the disk (pretrain,
    cache, finetune, report).
    """

    duration_s: float = option(5.0, "length of a window", unit="s", low=0.5, high=600)
    policy: str = option(
        "event",
        "windows centred on events, a grid, or a grid with extra windows in seizures",
        choices=("event", "grid", "grid+seizure"),
    )
    step_s: float | None = option(
        None, "step of the grid; null: the window's length", unit="s", low=0.1, high=600
    )
    min_overlap_s: float = option(
        0.0, "a grid window takes an event's label if they share more than this", unit="s", low=0
    )
    labels: str = option(
        "overlap",
        "a window is an event's if they overlap, or (published) if the event starts or ends in it",
        choices=("overlap", "published"),
    )
    background: str | None = option(
        "BCKG", "class of a grid window without events; null: such windows are left out"
    )
    edge: str = option(
        "skip",
        "a window that sticks out of the recording is skipped, or wraps around as published for"
        " TUEV",
        choices=("skip", "wrap"),
    )
    split: str = option(
        "published",
        "how recordings are divided into train, val and test; none: all are tested, by a classifier"
        " that learned elsewhere",
        choices=("published", "subject", "session", "run", "recording", "column", "kfold", "none"),
    )
    kfold_unit: str = option(
        "subject",
        "what stays together in kfold",
        choices=("subject", "session", "run", "recording"),
    )
    n_folds: int = option(5, "number of folds (split=kfold)", low=3, high=1000)
    fold: int = option(0, "the fold that is tested; the next one validates", low=0)
    val_fraction: float = option(
        0.2, "share of the training units that validates", low=0.0, high=0.9
    )
    test_fraction: float = option(
        0.2,
        "share of the units that is tested (splits other than published, column, kfold)",
        low=0.0,
        high=0.9,
    )
    split_seed: int = option(4523, "seed of the random choice of units (published: 4523)", low=0)
    leave_out: list[str] = option(
        [],
        "subjects or sessions that no part holds; [chb12,chb13,chb17] for CHB-MIT as the usual"
        " scripts process it",
    )


@dataclass(kw_only=True)
class BackboneConfig:
    """Size of the diffusion backbone, SSMDP (pretrain)."""

    d_model: int = option(128, "width", low=4, high=4096)
    n_blocks: int = option(20, "residual blocks", low=1, high=200)
    d_state: int = option(
        128, "state size of each SSM (half as many conjugate pairs)", low=2, high=1024
    )
    d_cond: int = option(512, "width of the condition", low=4, high=4096)
    d_embed: int = option(128, "width of the step and channel embeddings", low=4, high=4096)


@dataclass(kw_only=True)
class DiffusionConfig:
    """The forward process (pretrain, generate)."""

    n_steps: int = option(50, "diffusion steps", low=2, high=1000)
    schedule: str = option(
        "squaredcos_cap_v2", "noise schedule", choices=("squaredcos_cap_v2", "linear")
    )
    beta_start: float = option(1e-4, "first beta (linear)", low=0, high=1)
    beta_end: float = option(0.05, "last beta (linear)", low=0, high=1)


@dataclass(kw_only=True)
class EmaConfig:
    """Exponential moving average of the weights (pretrain, finetune)."""

    decay: float = option(
        0.999, "highest decay; the warm-up reaches it after about 31,700 calls", low=0, high=1
    )
    start: int = option(100, "calls before which the average is a copy", low=0)
    every: int = option(10, "optimizer steps between two updates", low=1)


@dataclass(kw_only=True)
class PretrainConfig:
    """Learning to denoise single channels (pretrain)."""

    epochs: int = option(100, "passes over the training windows", low=0)
    batch_size: int = option(108, "single-channel windows in a step, over all devices", low=1)
    lr: float = option(1e-4, "learning rate", low=0)
    weight_decay: float = option(0.0, "weight decay; never on A, B and dt", low=0)
    grad_clip: float = option(1.0, "largest gradient norm", low=0)
    windows: str = option(
        "auto",
        "windows to learn from: windows.policy, or a grid over the whole recording; auto: a grid if"
        " there are no events",
        choices=("auto", "event", "grid"),
    )
    max_windows: int | None = option(
        None, "at most this many windows (all their channels), spread evenly; null: all", low=1
    )
    samples: int = option(
        4,
        "windows generated per channel, after validations and at the end, for report and picture",
        low=0,
        high=1000,
    )
    samples_every: int = option(1, "validations between two generations", low=1)
    ema: EmaConfig = field(default_factory=EmaConfig)


@dataclass(kw_only=True)
class LatentConfig:
    """From windows to tokens (cache, or finetune on the fly)."""

    query: list[str] = option(["gate"], "activities to read", choices=("gate", "filter", "inter"))
    pool: list[str] = option(
        ["std"], "how each query is pooled over time; one per query", choices=("std", "mean")
    )
    step: int = option(1, "diffusion step that the backbone is given, counted from 0", low=0)
    forward: str = option(
        "none",
        "forward process before reading: none, scaled without noise, or with noise (never cached)",
        choices=("none", "noiseless", "noisy"),
    )
    window: int = option(200, "pooling window", unit="samples at 200 Hz", low=2)
    stride: int = option(200, "pooling step", unit="samples at 200 Hz", low=1)
    dtype: str = option(
        "float16", "number format of stored tokens", choices=("float16", "float32", "int8")
    )
    cached: bool = option(
        True,
        "read tokens from the latents folder; false: compute them from recordings and backbone",
    )
    shard_windows: int = option(256, "windows in a shard", low=1)
    batch_size: int = option(8, "windows that the backbone takes at once", low=1)


@dataclass(kw_only=True)
class FusionConfig:
    """The latent fusion transformer, LFT (finetune)."""

    kind: str = option(
        "lft",
        "fusion tokens, none (all tokens flattened), or the mean over blocks",
        choices=("lft", "none", "mean"),
    )
    n_tokens: int = option(16, "fusion tokens per pool", low=1, high=1024)
    n_heads: int = option(8, "attention heads", low=1, high=64)
    ff: int = option(4, "width of the feed-forward layers, in widths of the model", low=1, high=16)
    depth: int = option(
        8, "pairs of attention and feed-forward in the classification stack", low=0, high=200
    )
    standardise: bool = option(
        False,
        "centre and scale the features of each block's tokens by the training part (published: no;"
        " for small backbones)",
    )
    first_block: int = option(0, "first block whose tokens are fused", low=0)
    last_block: int | None = option(None, "block before which to stop; null: all", low=1)


@dataclass(kw_only=True)
class FinetuneConfig:
    """Training the classifier on tokens (finetune)."""

    loss: str = option(
        "cross_entropy",
        "cross entropy over classes, or binary cross entropy on one logit",
        choices=("cross_entropy", "binary"),
    )
    label_smoothing: float = option(0.1, "label smoothing of the cross entropy", low=0, high=1)
    class_weights: list[float] | None = option(
        None, "weight of each class in the cross entropy", low=0
    )
    pos_weight: float | None = option(
        None, "weight of the positive class in the binary loss", low=0
    )
    max_samples: int | None = option(
        None,
        "learn from at most this many training samples, as evenly over classes as they allow; null:"
        " all; validation keeps all",
        low=2,
    )
    epochs: int = option(50, "most passes over the training windows", low=1)
    batch_size: int = option(256, "windows in a step, over all devices", low=1)
    max_lr: float = option(5e-4, "highest learning rate of OneCycle", low=0)
    pct_start: float = option(0.1, "share of the steps in which the rate rises", low=0, high=1)
    div: float = option(25.0, "highest over first learning rate", low=1)
    final_div: float = option(1e4, "first over last learning rate", low=1)
    betas: list[float] = option(
        [0.9, 0.98], "Adam's betas; OneCycle moves the first between 0.85 and 0.95", low=0, high=1
    )
    weight_decay: float = option(
        0.05, "weight decay; not on fusion tokens, biases and other 1-D parameters", low=0
    )
    grad_clip: float = option(3.0, "largest gradient norm", low=0)
    monitor: str = option(
        "kappa",
        "validation score that picks the checkpoint",
        choices=("kappa", "balanced_accuracy", "auc_pr", "auroc"),
    )
    patience: int = option(3, "epochs without improvement before stopping", low=1)
    patience_from: int = option(20, "epoch from which patience counts", low=0)
    train_backbone: bool = option(False, "train the backbone too (needs latents.cached=false)")
    ema: EmaConfig = field(default_factory=EmaConfig)


@dataclass(kw_only=True)
class RunConfig:
    """Where things go and what they run on; never part of what a result is (all stages), save seed
    and compat.
    """

    root: str = option("runs", "folder under which results go, as <root>/<corpus>/<recipe>/...")
    recordings: str | None = option(None, "recordings folder to read instead of the run's own")
    backbone: str | None = option(
        None,
        "backbone folder, published .ckpt or hub id to use instead of the run's own; random:"
        " untrained weights",
    )
    latents: str | None = option(None, "latents folder to read instead of the run's own")
    classifiers: list[str] = option(
        [], "classifier folders or published .ckpt files to report instead of the run's own"
    )
    rate: float = option(
        1.0,
        "report: resample the test windows by this factor; the model runs at that rate without"
        " retraining",
        low=0.5,
        high=5,
    )
    compare: list[str] = option(
        [],
        "report: recipes whose classifiers to show beside this one's, or braindecode.MODEL to train"
        " one of its models from scratch",
    )
    seed: int = option(0, "seed of order, steps, noise and initial weights", low=0, high=2**31 - 1)
    compat: str | None = option(None, "reproduce the published errors", choices=("published",))
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    devices: int = option(1, "devices (processes) per machine", low=1, high=1024)
    nodes: int = option(1, "machines", low=1, high=10_000)
    precision: str = option(
        "32-true", "arithmetic of training", choices=("32-true", "bf16-mixed", "64-true")
    )
    workers: int = option(
        0,
        "processes that read data beside the main one; preprocess: recordings at a time, 0: one per"
        " core",
        low=0,
        high=1024,
    )
    cluster: str | None = option(
        None, "address of a dask scheduler (tcp://...) whose workers preprocess and cache"
    )
    loggers: list[str] = option(
        [], "where training curves go beside curves.csv", choices=("tensorboard", "wandb")
    )
    strict: bool = option(False, "end with an error if any recording failed")


@dataclass(kw_only=True)
class Config:
    """All settings. ``recipe`` and ``corpus`` name the files in conf/ that they came from."""

    recipe: str = option("base", "name of the recipe; results go below it")
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    signal: SignalConfig = field(default_factory=SignalConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    run: RunConfig = field(default_factory=RunConfig)
    explicit: list[str] = option([], "dotted names that the user typed; filled by the command line")


# What a user may type without its section; `backbone=DIR` and `latents=DIR` are paths,
# `backbone.d_model=64` is a size.
SHORT = {
    "source": "corpus.source",
    "events": "corpus.events",
    "table": "corpus.table",
    "missing": "signal.missing",
    "labels": "windows.labels",
    "split": "windows.split",
    "fold": "windows.fold",
    "edge": "windows.edge",
    **{f.name: f"run.{f.name}" for f in fields(RunConfig)},
}


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted name, field, value) of every setting below a dataclass."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", f, value


_SECTION_USED_BY = {
    "table": ("preprocess",),
    "corpus": ("cache", "finetune", "report"),
    "latents": ("cache", "finetune", "report"),
    "fusion": ("finetune", "report"),
    "finetune": ("finetune", "report"),
    "run": ("report",),
}


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy of the configuration in which the settings of these dotted names have these
    values.
    """
    changed = copy.deepcopy(config)
    for name, value in values.items():
        *sections, key = name.split(".")
        target: Any = changed
        for part in sections:
            target = getattr(target, part)
        setattr(target, key, copy.deepcopy(value))
    return changed


def section(config: Config, *names: str) -> dict[str, Any]:
    """Return the named sections as plain JSON-able dicts, for a manifest."""
    return {name: asdict(getattr(config, name)) for name in names}


def check(config: Config) -> Config:
    """Return the configuration if each value is allowed and nothing that was typed contradicts
    itself; what depends on a stage's inputs is left to :func:`check_resolved`.

    Raises:
        UserError: one line per fault, all faults at once.
    """
    faults = [
        fault
        for name, f, value in leaves(config)
        for fault in _faults_of_value(name, f.metadata, value)
    ]
    faults += _contradictions(config)
    if faults:
        raise UserError("\n".join(faults))
    return config


def check_resolved(config: Config, stage: str) -> Config:
    """Return the configuration that a stage will really use, if nothing in it contradicts itself.

    Raises:
        UserError: one line per fault, all faults at once.
    """
    faults = [*_contradictions(config)]
    for section, fault in _contradictions_with_inputs(config):
        if stage in _SECTION_USED_BY.get(section, (stage,)):
            faults.append(fault)
    if faults:
        raise UserError("\n".join(faults))
    return config


def _faults_of_value(name: str, limits: Any, value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if limits["choices"] and item is not None and item not in limits["choices"]:
            yield (
                f"{name}={item}: allowed are"
                f" {', '.join(limits['choices'])}{did_you_mean(str(item), limits['choices'])}"
            )
        if isinstance(item, int | float) and not isinstance(item, bool):
            low, high = limits["low"], limits["high"]
            if (low is not None and not item >= low) or (high is not None and not item <= high):
                unit = f" {limits['unit']}" if limits["unit"] else ""
                yield f"{name}={item}: must be {_range_text(low, high)}{unit}"


def _range_text(low: float | None, high: float | None) -> str:
    if high is None:
        return f"at least {low:g}"
    return f"{low:g} to {high:g}" if low is not None else f"at most {high:g}"


def did_you_mean(word: str, known: Any) -> str:
    """Return `; did you mean "x"?` for the nearest known word (which may be a stranger's, so
    escaped), or nothing.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{ascii(near[0])[1:-1]}"?' if near else ""


def _contradictions(c: Config) -> Iterator[str]:
    if len(c.latents.query) != len(c.latents.pool):
        yield (
            f"latents.query={c.latents.query} and latents.pool={c.latents.pool}: give one pool per"
            " query"
        )
    if c.latents.forward == "noisy" and c.latents.cached:
        yield (
            "latents.forward=noisy: noise differs in every epoch and can't be cached; add"
            " latents.cached=false"
        )
    if c.finetune.train_backbone and c.latents.cached:
        yield (
            "finetune.train_backbone=true: cached tokens can't train a backbone; add"
            " latents.cached=false"
        )
    if c.signal.highpass >= c.signal.lowpass or c.signal.lowpass >= c.signal.sfreq / 2:
        yield (
            f"signal: highpass={c.signal.highpass} < lowpass={c.signal.lowpass} <"
            f" sfreq/2={c.signal.sfreq / 2} Hz must hold"
        )
    if c.backbone.d_state % 2 or c.backbone.d_embed % 2:
        yield "backbone.d_state and backbone.d_embed must be even"
    if c.windows.split == "kfold" and c.windows.fold >= c.windows.n_folds:
        yield (
            f"windows.fold={c.windows.fold}: the last of {c.windows.n_folds} folds is"
            f" {c.windows.n_folds - 1}"
        )
    if c.windows.split == "published" and c.corpus.name in ("folder", "bids"):
        yield (
            f"windows.split=published: corpus={c.corpus.name} has no published split; use subject,"
            " run, recording, column or kfold"
        )
    if (c.finetune.loss == "binary") != (
        c.finetune.monitor in ("auc_pr", "auroc")
    ) and c.finetune.monitor != "balanced_accuracy":
        yield (
            f"finetune.monitor={c.finetune.monitor}: kappa goes with loss=cross_entropy, auc_pr and"
            " auroc with loss=binary"
        )
    yield from _losses_settings(c)
    if len(set(c.corpus.classes)) < len(c.corpus.classes):
        yield f"corpus.classes={c.corpus.classes}: names a class twice"
    if len(c.finetune.betas) != 2:
        yield f"finetune.betas={c.finetune.betas}: Adam takes two"


def _losses_settings(c: Config) -> Iterator[str]:
    """Typed settings of the loss that is not used."""
    others = {
        "binary": ("finetune.class_weights", "finetune.label_smoothing"),
        "cross_entropy": ("finetune.pos_weight",),
    }
    for name in others.get(c.finetune.loss, ()):
        if name in c.explicit:
            instead = "pos_weight" if c.finetune.loss == "binary" else "class_weights"
            yield (
                f"{name}: has no effect with finetune.loss={c.finetune.loss}; use"
                f" finetune.{instead}"
            )


def _contradictions_with_inputs(c: Config) -> Iterator[tuple[str, str]]:
    """Those between settings of which some come from the folders that a stage reads, each with the
    section that only some stages use.
    """
    if c.corpus.events == "table" and not c.corpus.table:
        yield "table", "corpus.events=table: say which with table=FILE"
    if c.latents.step >= c.diffusion.n_steps:
        fault = (
            f"latents.step={c.latents.step}: the last of diffusion.n_steps={c.diffusion.n_steps}"
            f" steps is {c.diffusion.n_steps - 1}"
        )
        yield "latents", fault
    if c.backbone.d_model % c.fusion.n_heads:
        fault = (
            f"fusion.n_heads={c.fusion.n_heads}: must divide backbone.d_model={c.backbone.d_model}"
        )
        yield "fusion", fault
    last = c.fusion.last_block or c.backbone.n_blocks
    if not c.fusion.first_block < last <= c.backbone.n_blocks:
        fault = (
            f"fusion: blocks {c.fusion.first_block}..{last} are not within the backbone's"
            f" {c.backbone.n_blocks}"
        )
        yield "fusion", fault
    if c.finetune.loss == "binary" and len(c.corpus.classes) != 2:
        fault = (
            "finetune.loss=binary: needs two classes, background first;"
            f" corpus.classes={c.corpus.classes}"
        )
        yield "finetune", fault
    if unknown := [name for name in c.corpus.event_classes if name not in c.corpus.classes]:
        yield (
            "corpus",
            (
                f"corpus.event_classes: {unknown[0]!r} is not one of corpus.classes="
                f"{c.corpus.classes}{did_you_mean(unknown[0], c.corpus.classes)}"
            ),
        )
    if c.signal.per_window and (c.corpus.name, c.windows.duration_s) != ("chbmit", 10.0):
        fault = (
            "signal.per_window=true: is the published treatment of CHB-MIT's 10 s windows alone;"
            " leave it out"
        )
        yield "signal", fault
    if c.run.rate != 1.0 and c.signal.per_window:
        fault = (
            "run.rate: recordings that are filtered window by window (signal.per_window=true) can't"
            " be tested at another rate"
        )
        yield "run", fault
    if c.finetune.class_weights and len(c.finetune.class_weights) != len(c.corpus.classes):
        fault = (
            f"finetune.class_weights: {len(c.finetune.class_weights)} weights for"
            f" {len(c.corpus.classes)} classes"
        )
        yield "finetune", fault
