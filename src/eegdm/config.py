"""The settings of every stage: one root dataclass, for each field what it is, when one would change
it, its unit and range, and the cross-checks.

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
    advice: str,
    *,
    unit: str = "",
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare a field with the texts and the limits that ``--settings`` shows and :func:`check`
    enforces.

    Args:
        default: the value without a recipe.
        help: what the setting is.
        advice: when one would change it, or what larger values do; for a published value, what it
            reproduces.
        unit: of the value.
        choices: the only values allowed, also of each element of a list.
        low: least number allowed, also of each element of a list.
        high: greatest number allowed, likewise.
    """
    metadata = {
        "help": help,
        "advice": advice,
        "unit": unit,
        "choices": choices,
        "low": low,
        "high": high,
    }
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class CorpusConfig:
    """Where recordings and events come from (preprocess)."""

    name: str = option(
        "synthetic",
        "layout of the corpus",
        "corpus=NAME sets it together with all that belongs to a layout; use that instead.",
        choices=(
            "synthetic",
            "tuev",
            "tuab",
            "tusz",
            "chbmit",
            "siena",
            "eegmmidb",
            "eegmat",
            "folder",
            "bids",
        ),
    )
    source: str | None = option(
        None,
        "folder that holds the raw recordings",
        "Give it to preprocess for every corpus but the synthetic one, which is generated without"
        " it.",
    )
    events: str = option(
        "rec",
        "where events come from: TUEV's .rec files, TUSZ's .csv_bi or .csv files, TUAB's folders,"
        " CHB-MIT's summaries, Siena's seizure lists, the tasks of the runs of eegmmidb and EEGMAT,"
        " a table, the files' own annotations, BIDS *_events.tsv, or nowhere (pretraining only)",
        "Change it if your labels are somewhere else than where corpus=NAME expects them.",
        choices=(
            "rec",
            "csv_bi",
            "csv",
            "folders",
            "summary",
            "seizure_list",
            "runs",
            "table",
            "annotations",
            "bids",
            "none",
        ),
    )
    table: str | None = option(
        None,
        "CSV, TSV or Parquet with file, onset_s, duration_s, label (channel, subject, session, run,"
        " split), in the current folder or below source=; without times, labels of whole"
        " recordings",
        "Give it together with events=table.",
    )
    label_map: dict[str, str] = option(
        {},
        "text in the file -> class; events whose text is not named are left out; empty: all, as"
        " they are",
        "Change it to rename, join or leave out labels; another grouping can be given to a later"
        " stage without preprocessing again.",
    )
    classes: list[str] = option(
        list(TUEV_CLASSES),
        "the classes, in the order of the logits",
        "Change it to the labels of your own corpus (those of a table are taken if it is left"
        " out); finetune.loss=binary needs two, background first.",
    )
    event_classes: list[str] = option(
        list(TUEV_CLASSES[:5]),
        "classes that `eegdm predict` marks as events; the others are background",
        "Change it together with corpus.classes, to those that should be marked.",
    )
    pattern: str = option(
        r"(?:^|/)(?:sub-)?(?P<subject>(?<=sub-)[^_./]+|S\d+(?=R\d+\.\w+$)|[^/]+?(?=(?:\.fif)?\.[^./]+$))"
        r"(?:.*[/_]ses-(?P<session>[^_./]+))?(?:(?:.*_run-|(?<=\d)R)(?P<run>[^_./]+))?",
        "regular expression, searched in the path below source=, whose groups subject, session, run"
        " say who and when (corpus=folder); as it is: sub-01_ses-02_run-03..., S001R04, else the"
        " file's name is its subject",
        "Change it if preprocess reports other people than there are: a person who counts as two"
        " may be both in training and in test.",
    )
    n_train: int = option(
        12,
        "synthetic training subjects (corpus=synthetic)",
        "Larger values give more to learn from, and every stage takes longer.",
        low=2,
        high=10_000,
    )
    n_eval: int = option(
        4,
        "synthetic test subjects (corpus=synthetic)",
        "Larger values make test scores vary less from corpus to corpus.",
        low=1,
        high=10_000,
    )
    minutes: float = option(
        4.0,
        "length of a synthetic recording",
        "Larger values give more events of each subject, but not more subjects.",
        unit="min",
        low=0.5,
        high=1440,
    )
    seed: int = option(
        0,
        "seed of the synthetic corpus",
        "Change it to repeat an experiment on other synthetic subjects.",
        low=0,
    )


@dataclass(kw_only=True)
class SignalConfig:
    """From the file's channels to model units (preprocess; mu, spread, whiten: every reader)."""

    sfreq: float = option(
        200.0,
        "sampling frequency of the recordings",
        "Published: 200, which existing backbones learned from. Change it only to pretrain a"
        " backbone of your own at another rate.",
        unit="Hz",
        low=100,
        high=1000,
    )
    highpass: float = option(
        0.1,
        "lower edge of the band-pass",
        "Published: 0.1 for TUEV, 0.5 for CHB-MIT. Larger values remove more of the slow drifts,"
        " and of slow EEG.",
        unit="Hz",
        low=0.01,
        high=10,
    )
    lowpass: float = option(
        75.0,
        "upper edge of the band-pass; lowered to 0.45 of the file's sampling frequency below"
        " 160 Hz",
        "Published: 75. Smaller values remove more muscle activity, and fast EEG.",
        unit="Hz",
        low=10,
        high=400,
    )
    notch: list[float] = option(
        [50.0],
        "mains frequencies to notch",
        "Published: 50 for TUEV (although its mains have 60), 60 for CHB-MIT. Change it to the"
        " mains frequency of your recordings; [] filters none.",
        unit="Hz",
        low=1,
        high=500,
    )
    montage: str = option(
        "tcp",
        "channels: the 22 TCP pairs, the 16 of CHB-MIT, or (referential) the file's first"
        " n_referential as they are, whatever they measure, which no backbone can be given;"
        " `--channels file` of predict and embed is another thing",
        "Change it if your recordings have the channels of CHB-MIT and no others (corpus=chbmit"
        " does), or to use the signals outside EEGDM.",
        choices=("tcp", "chbmit", "referential"),
    )
    missing: str = option(
        "error",
        "a channel that can't be derived fails its recording (error), or is left out (drop)",
        "Change it if your recordings lack electrodes; models then ignore the missing channels.",
        choices=("error", "drop"),
    )
    n_referential: int = option(
        23,
        "how many of the file's channels montage=referential takes",
        "Change it to the number of EEG channels at the beginning of your files.",
        low=1,
        high=1024,
    )
    unit: str | None = option(
        None,
        "what the files' numbers are in, above what they say; null: as each file says",
        "Change it if recordings are refused because their amplitudes cannot be EEG in volts.",
        choices=("V", "mV", "uV"),
    )
    per_window: bool = option(
        False,
        "keep raw samples and resample, filter and compand each window when it is read, as"
        " published for CHB-MIT",
        "Change it only to repeat published numbers on CHB-MIT (compat=published does): every"
        " window then has the edges of a filter.",
    )
    mu: float = option(
        255.0,
        "companding of amplitudes above 100 µV; 0 leaves them",
        "Published: 255, and 0 in the recipe nolaw. Larger values compress large amplitudes more; a"
        " backbone needs the value that it learned with.",
        low=0,
        high=10_000,
    )
    spread: float | None = option(
        None,
        "scale each recording so that its robust spread (median over channels) is this many model"
        " units, before companding; null: model units are 100 µV",
        "Give it (recipe people: 0.35) where people or amplifiers differ in amplitude: the same"
        " noise hides more of a quiet recording. Where each class is a recording of its own, it"
        " takes the difference in amplitude away.",
        low=0.01,
        high=10,
    )
    whiten: list[float] | None = option(
        None,
        "filter b_0, b_1, ... that makes the mean spectrum of windows flat, at sfreq, after"
        " companding (examples/whitening_filter.py finds it); null: none",
        "Give it (recipe people has one for 100 Hz), and mu=0, so that noise hides all frequencies"
        " alike; without it fast activity is hidden first.",
    )


@dataclass(kw_only=True)
class WindowConfig:
    """How recordings are cut and divided: settings of the reader, never of the disk (pretrain,
    cache, finetune, report).
    """

    duration_s: float = option(
        5.0,
        "length of a window",
        "Published: 5 for TUEV, 10 for CHB-MIT. Larger values show more around an event and decide"
        " less often; the backbone reads 5 s at a time.",
        unit="s",
        low=0.5,
        high=600,
    )
    policy: str = option(
        "event",
        "windows centred on events, a grid, or a grid with extra windows in seizures",
        "Published: event for TUEV, grid+seizure for CHB-MIT. Change it to grid if labels last"
        " longer than a window, or to detect events in continuous EEG.",
        choices=("event", "grid", "grid+seizure"),
    )
    step_s: float | None = option(
        None,
        "step of the grid; null: the window's length",
        "Smaller values make windows overlap: more windows and finer onsets, at the same multiple"
        " of disk and time.",
        unit="s",
        low=0.1,
        high=600,
    )
    min_overlap_s: float = option(
        0.0,
        "a grid window takes an event's label if they share more than this",
        "Larger values keep windows that an event only touches in the background.",
        unit="s",
        low=0,
    )
    labels: str = option(
        "overlap",
        "a window is an event's if they overlap, or (published) if the event starts or ends in it",
        "Change it only to repeat published numbers on CHB-MIT: windows wholly inside a seizure"
        " then count as background.",
        choices=("overlap", "published"),
    )
    background: str | None = option(
        "BCKG",
        "class of a grid window without events; null: such windows are left out",
        "Change it to your name for the background, or to null if what has no label was not looked"
        " at.",
    )
    edge: str = option(
        "skip",
        "a window that sticks out of the recording is skipped, or wraps around as published for"
        " TUEV",
        "Change it to keep events near the ends of recordings; their windows then hold signal from"
        " the other end.",
        choices=("skip", "wrap"),
    )
    split: str = option(
        "published",
        "how recordings are divided into train, val and test; none: all are tested, by a classifier"
        " that learned elsewhere",
        "Change it to subject, or to kfold if there are few subjects, for a corpus without a"
        " published split. Scores of session, run and recording are of people who were also learned"
        " from.",
        choices=("published", "subject", "session", "run", "recording", "column", "kfold", "none"),
    )
    kfold_unit: str = option(
        "subject",
        "what stays together in kfold",
        "Change it only if there are fewer people than folds; scores are then not of unseen"
        " people.",
        choices=("subject", "session", "run", "recording"),
    )
    n_folds: int = option(
        5,
        "number of folds (split=kfold)",
        "Larger values leave more to learn from in each fold, and there are as many trainings.",
        low=3,
        high=1000,
    )
    fold: int = option(
        0,
        "the fold that is tested; the next one validates",
        "Change it from run to run, or give fold=all, so that everybody is tested once.",
        low=0,
    )
    val_fraction: float = option(
        0.2,
        "share of the training units that validates",
        "Larger values make the choice of the best epoch and of thresholds surer, and leave less to"
        " learn from.",
        low=0.0,
        high=0.9,
    )
    test_fraction: float = option(
        0.2,
        "share of the units that is tested (splits other than published, column, kfold)",
        "Larger values make the final scores surer, and leave less to learn from.",
        low=0.0,
        high=0.9,
    )
    split_seed: int = option(
        4523,
        "seed of the random choice of units",
        "Published: 4523 chooses TUEV's validation subjects. Change it to see how much scores"
        " depend on who is in which part.",
        low=0,
    )
    leave_out: list[str] = option(
        [],
        "subjects or sessions that no part holds",
        "Change it to leave people out without removing files; [chb12,chb13,chb17] reproduces"
        " CHB-MIT as the usual scripts process it.",
    )


@dataclass(kw_only=True)
class BackboneConfig:
    """Size of the diffusion backbone, SSMDP (pretrain)."""

    d_model: int = option(
        128,
        "width",
        "Published: 128. Larger values cost memory in proportion, and time more than that; 32"
        " (small) and 64 (mini) run on a laptop. fusion.n_heads must divide it.",
        low=4,
        high=4096,
    )
    n_blocks: int = option(
        20,
        "residual blocks",
        "Published: 20. Larger values cost time and memory in proportion, and disk for the tokens"
        " of each block; 8 (small, mini) run on a laptop.",
        low=1,
        high=200,
    )
    d_state: int = option(
        128,
        "state size of each SSM (half as many conjugate pairs)",
        "Published: 128. Larger values let each kernel mix more decays and frequencies; the time of"
        " a large batch hardly depends on it.",
        low=2,
        high=1024,
    )
    d_cond: int = option(
        512,
        "width of the condition",
        "Published: 512. Change it in proportion to d_model for a backbone of another size.",
        low=4,
        high=4096,
    )
    d_embed: int = option(
        128,
        "width of the step and channel embeddings",
        "Published: 128. Change it in proportion to d_model for a backbone of another size.",
        low=4,
        high=4096,
    )


@dataclass(kw_only=True)
class DiffusionConfig:
    """The forward process (pretrain, generate)."""

    n_steps: int = option(
        50,
        "diffusion steps",
        "Published: 50. Larger values make generation slower in proportion; latents.step counts in"
        " these steps.",
        low=2,
        high=1000,
    )
    schedule: str = option(
        "squaredcos_cap_v2",
        "noise schedule",
        "Published: squaredcos_cap_v2; linear reproduces an ablation (recipe linear), in which even"
        " the last step leaves some signal.",
        choices=("squaredcos_cap_v2", "linear"),
    )
    beta_start: float = option(
        1e-4,
        "first beta (linear)",
        "Published: 0.0001. Larger values add more noise in the first steps.",
        low=0,
        high=1,
    )
    beta_end: float = option(
        0.05,
        "last beta (linear)",
        "Published: 0.05. Larger values leave less signal at the last step.",
        low=0,
        high=1,
    )


@dataclass(kw_only=True)
class EmaConfig:
    """Exponential moving average of the weights (pretrain, finetune)."""

    decay: float = option(
        0.999,
        "highest decay; the warm-up reaches it after about 31,700 calls",
        "Published: 0.999. Larger values average over more steps; change it to about 0.99 for a"
        " training of a few thousand steps.",
        low=0,
        high=1,
    )
    start: int = option(
        100,
        "calls before which the average is a copy",
        "Published: 100. Change it to less for trainings of a few hundred steps, which would hardly"
        " be averaged.",
        low=0,
    )
    every: int = option(
        10,
        "optimizer steps between two updates",
        "Published: 10. Change it to 1 for short trainings; larger values save a little time.",
        low=1,
    )


@dataclass(kw_only=True)
class PretrainConfig:
    """Learning to denoise single channels (pretrain)."""

    epochs: int = option(
        100,
        "passes over the training windows",
        "Published: 100. Change it to less if val_loss in curves.csv stops falling before.",
        low=0,
    )
    batch_size: int = option(
        108,
        "single-channel windows in a step, over all devices",
        "Published: 108. Change it to less if memory runs out, or if the corpus is small, for more"
        " steps in an epoch.",
        low=1,
    )
    lr: float = option(
        1e-4,
        "learning rate",
        "Published: 0.0001. Change it to more for a small backbone (small: 0.002, mini: 0.001), to"
        " less if the loss jumps or becomes NaN.",
        low=0,
    )
    last_lr: float | None = option(
        None,
        "learning rate at the end, approached by a cosine; null: as at the beginning",
        "Published: constant. Change it to 0 if the number of epochs is small and fixed: the last"
        " steps then average out what is left of the first rate's noise.",
        low=0,
    )
    ssm_lr: float | None = option(
        None,
        "learning rate of A, B and dt at the beginning; null: as of the others",
        "Change it to less than lr if lr is above 0.001: these parameters decide on decays and"
        " frequencies, and the loss jumps if they do.",
        low=0,
    )
    weight_decay: float = option(
        0.0,
        "weight decay; never on A, B and dt",
        "Published: 0. Change it to more if val_loss rises while train_loss falls.",
        low=0,
    )
    grad_clip: float = option(
        1.0,
        "gradients are clipped to this norm; 0: not at all",
        "Published: 1. Change it to less if the loss jumps.",
        low=0,
    )
    windows: str = option(
        "auto",
        "windows to learn from: windows.policy, or a grid over the whole recording; auto: a grid if"
        " there are no events",
        "Change it to grid to learn from all of the EEG, not only from what is around the events.",
        choices=("auto", "event", "grid"),
    )
    max_windows: int | None = option(
        None,
        "at most this many windows of each part (all their channels), spread evenly; null: all",
        "Change it to make a trial run short: time is in proportion to it.",
        low=1,
    )
    samples: int = option(
        4,
        "windows generated per channel, after validations and at the end, for report and picture",
        "Larger values show more of what the backbone generates and take time in proportion; 0"
        " generates none.",
        low=0,
        high=1000,
    )
    samples_every: int = option(
        1,
        "validations between two generations",
        "Larger values save time where generating takes long beside an epoch.",
        low=1,
    )
    ema: EmaConfig = field(default_factory=EmaConfig)


@dataclass(kw_only=True)
class LatentConfig:
    """From windows to tokens (cache, or finetune on the fly)."""

    query: list[str] = option(
        ["gate"],
        "activities to read",
        "Published: [gate]; [filter] reproduces an ablation (recipe base_filters). Each further one"
        " adds as many tokens, and as much disk.",
        choices=("gate", "filter", "inter"),
    )
    pool: list[str] = option(
        ["std"],
        "how each query is pooled over time; one per query",
        "Published: [std]; [mean] reproduces an ablation with lower scores (recipe base_gatem).",
        choices=("std", "mean"),
    )
    step: int = option(
        1,
        "diffusion step that the backbone is given, counted from 0",
        "Published: 1, which the paper counts as 2. Change it together with latents.forward"
        " (recipes base_t0 to base_t2).",
        low=0,
    )
    forward: str = option(
        "none",
        "forward process before reading: none, scaled without noise, or with noise (never cached)",
        "Published: none; the others reproduce ablations (recipes base_t0 to base_t2, and noise).",
        choices=("none", "noiseless", "noisy"),
    )
    window: int = option(
        200,
        "pooling window",
        "Published: 200 (1 s). Smaller values show when something happens more exactly; with a"
        " stride as small there are more tokens.",
        unit="samples at 200 Hz",
        low=2,
    )
    stride: int = option(
        200,
        "pooling step",
        "Published: 200. Smaller values give more tokens, and disk and time of fine-tuning in"
        " proportion; below latents.window they overlap.",
        unit="samples at 200 Hz",
        low=1,
    )
    dtype: str = option(
        "float16",
        "number format of stored tokens",
        "Change it to int8 to halve the disk space, at a difference in kappa that five seeds could"
        " not show; float32 needs twice the space, without a measured gain.",
        choices=("float16", "float32", "int8"),
    )
    cached: bool = option(
        True,
        "read tokens from the latents folder; false: compute them from recordings and backbone",
        "Change it for noise in every epoch, to train the backbone too, or if the disk is too"
        " small; every epoch then takes as long as cache.",
    )
    shard_windows: int = option(
        256,
        "windows in a shard",
        "Smaller values need less memory (a shard is held whole, 144 MB at full size) and lose less"
        " work when cache is interrupted, but make more files.",
        low=1,
    )
    batch_size: int = option(
        8,
        "windows that the backbone takes at once",
        "Larger values may keep a GPU busier and need more memory; tokens stay the same.",
        low=1,
    )


@dataclass(kw_only=True)
class FusionConfig:
    """The latent fusion transformer, LFT (finetune)."""

    kind: str = option(
        "lft",
        "fusion tokens, none (all tokens flattened), or the mean over blocks",
        "Published: lft; the others reproduce ablations with lower scores (recipes no_fusion,"
        " mean_fusion).",
        choices=("lft", "none", "mean"),
    )
    n_tokens: int = option(
        16,
        "fusion tokens per pool",
        "Published: 16. Smaller values (small: 4) train faster and suit small backbones.",
        low=1,
        high=1024,
    )
    n_heads: int = option(
        8,
        "attention heads",
        "Published: 8. Change it if it does not divide backbone.d_model.",
        low=1,
        high=64,
    )
    ff: int = option(
        4,
        "width of the feed-forward layers, in widths of the model",
        "Published: 4. Smaller values make the classifier smaller and faster.",
        low=1,
        high=16,
    )
    depth: int = option(
        8,
        "pairs of attention and feed-forward in the classification stack",
        "Published: 8; ablations with fewer or no fusion blocks have 22 to 35. Change it to less"
        " for small corpora (small: 2).",
        low=0,
        high=200,
    )
    standardise: bool = option(
        False,
        "centre and scale the features of each block's tokens by the training part",
        "Published: false. Change it for a small backbone, whose tokens are all nearly alike"
        " (recipes small and mini do).",
    )
    centre: str | None = option(
        None,
        "divide tokens by what is usual for a person, the geometric mean over windows spread over"
        " the recording, or over all recordings of the subject; null: not at all",
        "Published: null. Change it where people differ more than what you look for: to recording"
        " if each recording holds all classes, to subject if they are in different recordings"
        " (`eegdm predict` then needs --calibration).",
        choices=("recording", "subject"),
    )
    first_block: int = option(
        0,
        "first block whose tokens are fused",
        "Published: 0. Change it to see what the later blocks know alone (recipe base_secondhalf);"
        " stored tokens serve all choices.",
        low=0,
    )
    last_block: int | None = option(
        None,
        "block before which to stop; null: all",
        "Published: null. Change it to see what the earlier blocks know alone (recipe"
        " base_firsthalf).",
        low=1,
    )


@dataclass(kw_only=True)
class FinetuneConfig:
    """Training the classifier on tokens (finetune)."""

    loss: str = option(
        "cross_entropy",
        "cross entropy over classes, or binary cross entropy on one logit",
        "Published: cross_entropy for TUEV, binary for CHB-MIT. Change it to binary for two classes"
        " that are scored by AUROC or AUC-PR.",
        choices=("cross_entropy", "binary"),
    )
    label_smoothing: float = option(
        0.1,
        "label smoothing of the cross entropy",
        "Published: 0.1. Larger values make probabilities less extreme, which may help where labels"
        " are doubtful.",
        low=0,
        high=1,
    )
    class_weights: list[float] | None = option(
        None,
        "weight of each class in the cross entropy",
        "Published: null. Change it to larger weights for rare classes if the classifier misses"
        " them; one per class, in the order of corpus.classes.",
        low=0,
    )
    pos_weight: float | None = option(
        None,
        "weight of the positive class in the binary loss",
        "Published: 150.51 for CHB-MIT. Larger values miss fewer events at the price of more false"
        " alarms.",
        low=0,
    )
    max_samples: int | None = option(
        None,
        "learn from at most this many training samples, as evenly over classes as they allow; null:"
        " all; validation keeps all",
        "Change it to see how scores depend on the number of labels.",
        low=2,
    )
    epochs: int = option(
        50,
        "maximum number of passes over the training windows",
        "Published: 50. Larger values also stretch the schedule of the learning rate; training"
        " usually stops before.",
        low=1,
    )
    batch_size: int = option(
        256,
        "windows in a step, over all devices",
        "Published: 256. Change it to less for small corpora, for more steps in an epoch (small:"
        " 64), or if memory runs out.",
        low=1,
    )
    max_lr: float = option(
        5e-4,
        "highest learning rate of OneCycle",
        "Published: 0.0005. Change it to more for small models (small: 0.002), to less if the loss"
        " jumps or becomes NaN.",
        low=0,
    )
    pct_start: float = option(
        0.1,
        "share of the steps in which the rate rises",
        "Published: 0.1. Larger values warm up longer, for trainings that begin unsteadily.",
        low=0,
        high=1,
    )
    div: float = option(
        25.0,
        "highest over first learning rate",
        "Published: 25. Larger values begin at a lower rate.",
        low=1,
    )
    final_div: float = option(
        1e4,
        "first over last learning rate",
        "Published: 10000. Larger values end at a lower rate.",
        low=1,
    )
    betas: list[float] = option(
        [0.9, 0.98],
        "Adam's betas; OneCycle moves the first between 0.85 and 0.95",
        "Published: 0.98 as the second. Change that to 0.999 to average squared gradients over more"
        " steps.",
        low=0,
        high=1,
    )
    weight_decay: float = option(
        0.05,
        "weight decay; not on fusion tokens, biases and other 1-D parameters",
        "Published: 0.05. Change it to more if val_loss rises while train_loss falls.",
        low=0,
    )
    grad_clip: float = option(
        3.0,
        "gradients are clipped to this norm; 0: not at all",
        "Published: 3. Change it to less if the loss jumps.",
        low=0,
    )
    monitor: str = option(
        "kappa",
        "validation score that picks the checkpoint",
        "Published: kappa for TUEV, balanced_accuracy for CHB-MIT. Change it to the score that you"
        " will report.",
        choices=("kappa", "balanced_accuracy", "auc_pr", "auroc"),
    )
    patience: int = option(
        3,
        "epochs without improvement before stopping",
        "Published: 3. Change it to more if validation scores vary much from epoch to epoch.",
        low=1,
    )
    patience_from: int = option(
        20,
        "epoch from which patience counts",
        "Published: 20. Change it together with finetune.epochs (small: 10 of 25).",
        low=0,
    )
    train_backbone: bool = option(
        False,
        "train the backbone too (needs latents.cached=false)",
        "Published: false. Change it if a frozen backbone is not good enough for your recordings;"
        " training takes much more time and memory.",
    )
    ema: EmaConfig = field(default_factory=EmaConfig)


@dataclass(kw_only=True)
class RunConfig:
    """Where things go and what they run on; never part of what a result is (all stages), save seed
    and compat.
    """

    root: str = option(
        "runs",
        "folder under which results go, as <root>/<corpus>/<recipe>/...",
        "Change it to keep a variant apart, or if results belong on another disk.",
    )
    recordings: str | None = option(
        None,
        "recordings folder to read instead of the run's own",
        "Change it to read what another root or corpus has preprocessed.",
    )
    backbone: str | None = option(
        None,
        "backbone folder, published .ckpt or hub id (owner/name@revision:file) to use instead of"
        " the run's own; random: untrained weights",
        "Change it to leave out pretraining (mini comes with the package), or to compare with"
        " random weights; give the same to cache and finetune.",
    )
    model: str | None = option(
        None,
        "distill: the teacher, a folder, published .ckpt or hub id (owner/name@revision:file) of a"
        " backbone, or of a classifier whose backbone is meant",
        "Give it to distill, which needs it.",
    )
    latents: str | None = option(
        None,
        "latents folder to read instead of the run's own",
        "Change it to read tokens that another root has stored, of the same recordings and"
        " backbone.",
    )
    classifiers: list[str] = option(
        [],
        "classifier folders, published .ckpt files or hub ids to report instead of the run's own",
        "Change it to score classifiers from elsewhere on these recordings.",
    )
    rate: float = option(
        1.0,
        "report: resample the test windows by this factor; the model runs at that rate without"
        " retraining",
        "Change it to see how scores hold at another sampling rate; published: 0.95 and 0.9.",
        low=0.5,
        high=5,
    )
    compare: list[str] = option(
        [],
        "report: recipes whose classifiers to show beside this one's, or braindecode.MODEL to train"
        " one of its models from scratch",
        "Change it to see what pretraining or a setting is worth on equal terms.",
    )
    seed: int = option(
        0,
        "seed of order, steps, noise and initial weights",
        "Published scores are means over 0 to 4. Change it to see how much a score varies.",
        low=0,
        high=2**31 - 1,
    )
    compat: str | None = option(
        None,
        "reproduce the published errors",
        "Change it only for published checkpoints and numbers that depend on them; see"
        " docs/deviations.md.",
        choices=("published",),
    )
    device: str = option(
        "auto",
        "where to compute",
        "Change it if auto, which takes a GPU if there is one, should not.",
        choices=("auto", "cpu", "cuda", "mps"),
    )
    devices: int = option(
        1,
        "devices (processes) per machine",
        "Larger values divide each batch, so that what is learned stays the same.",
        low=1,
        high=1024,
    )
    nodes: int = option(
        1,
        "machines",
        "Change it to train on several; start the command on each, by torchrun or srun.",
        low=1,
        high=10_000,
    )
    precision: str = option(
        "32-true",
        "arithmetic of training",
        "Change it to bf16-mixed for speed on a GPU that has it; the backbone's blocks stay in"
        " float32.",
        choices=("32-true", "bf16-mixed", "64-true"),
    )
    workers: int = option(
        0,
        "processes that read data beside the main one; preprocess: recordings at a time, 0: one per"
        " core",
        "Larger values help if a GPU waits for data. Change it to less in preprocess if memory runs"
        " out.",
        low=0,
        high=1024,
    )
    cluster: str | None = option(
        None,
        "address of a dask scheduler (tcp://...) whose workers preprocess and cache",
        "Change it if one machine takes too long; all machines must see the same folders.",
    )
    loggers: list[str] = option(
        [],
        "where training curves go beside curves.csv",
        "Change it to watch a training in TensorBoard or Weights & Biases, which are extra"
        " installations.",
        choices=("tensorboard", "wandb"),
    )
    strict: bool = option(
        False,
        "end with an error if any recording failed",
        "Change it in scripts that must not continue without every recording.",
    )


@dataclass(kw_only=True)
class Config:
    """All settings. ``recipe`` and ``corpus`` name the files in conf/ that they came from."""

    recipe: str = option(
        "base",
        "name of the recipe; results go below it",
        "base is the published configuration; recipe=NAME sets another one.",
    )
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
    explicit: list[str] = option(
        [],
        "dotted names that the user typed; filled by the command line",
        "Leave it: what is typed decides on which contradictions are refused.",
    )


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
    "teacher": ("pretrain",),
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
                yield f"{name}={item}: must be {range_text(low, high)}{unit}"


def range_text(low: float | None, high: float | None) -> str:
    """Write a range in words; ten digits, so that the largest seed is written out."""
    if high is None:
        return f"at least {low:.10g}"
    return f"{low:.10g} to {high:.10g}" if low is not None else f"at most {high:.10g}"


def did_you_mean(word: str, known: Any) -> str:
    """Return `; did you mean "x"?` for the nearest known word (which may be a stranger's, so
    escaped), or nothing.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{ascii(near[0])[1:-1]}"?' if near else ""


_OF_RUNS = ("eegmmidb", "eegmat")  # corpora whose runs say what happened in them


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
    if c.fusion.centre is not None and c.finetune.train_backbone:
        yield (
            f"fusion.centre={c.fusion.centre}: what tokens are centred by would change while the"
            " backbone learns; leave out finetune.train_backbone"
        )
    if c.fusion.centre is not None and c.latents.forward == "noisy":
        yield (
            f"fusion.centre={c.fusion.centre}: noisy tokens differ from epoch to epoch; choose"
            " latents.forward none or noiseless"
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
    if c.corpus.events == "folders" and c.corpus.name != "tuab":
        yield "corpus.events=folders: only corpus=tuab has folders that are labels"
    if c.corpus.events == "runs" and c.corpus.name not in _OF_RUNS:
        yield f"corpus.events=runs: only corpus={' and corpus='.join(_OF_RUNS)} have such runs"
    if c.windows.split == "published" and c.corpus.name in (*_OF_RUNS, "siena", "folder", "bids"):
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
    if c.pretrain.last_lr is not None and not c.pretrain.last_lr < c.pretrain.lr:
        yield (
            f"pretrain.last_lr={c.pretrain.last_lr:g}: must be below pretrain.lr={c.pretrain.lr:g}"
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
    if c.run.model is not None:
        fault = (
            f"model={c.run.model}: pretrain has no teacher; leave it out, or run `eegdm distill`"
        )
        yield "teacher", fault
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
    if c.fusion.centre is not None and set(c.latents.pool) != {"std"}:
        fault = (
            f"fusion.centre={c.fusion.centre}: takes the log of tokens, which have to be standard"
            f" deviations, not latents.pool={c.latents.pool}"
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
    if c.signal.per_window and (c.signal.spread or c.signal.whiten):
        fault = (
            "signal.per_window=true: leaves each window as published; leave out signal.spread and"
            " signal.whiten"
        )
        yield "signal", fault
    if c.run.rate != 1.0 and c.signal.whiten:
        fault = (
            f"run.rate={c.run.rate:g}: signal.whiten is a filter for {c.signal.sfreq:g} Hz; leave"
            " run.rate out"
        )
        yield "run", fault
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
