"""The sentences of a methods section, each made of what one folder says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from eegdm.artifacts import Artifact
from eegdm.config import WindowConfig
from eegdm.evaluation.decision import RECORDING
from eegdm.models.pooling import SFREQ
from eegdm.report import facts
from eegdm.report.charts import SCORE_NAMES
from eegdm.report.lineage import Backbone
from eegdm.report.sections import meaning

Settings = Mapping[str, Any]

_MONTAGES = {
    "tcp": "The 22 bipolar channels of the TCP montage were derived from the electrodes",
    "chbmit": "The 16 bipolar channels of CHB-MIT were derived from the electrodes",
}
_EVENTS = {
    "rec": "the corpus's .rec files",
    "csv_bi": "the corpus's .csv_bi files",
    "csv": "the corpus's .csv files",
    "folders": "the corpus's folders",
    "summary": "the corpus's summaries",
    "seizure_list": "the corpus's seizure lists",
    "runs": "the tasks of the corpus's runs",
    "table": "a table",
    "annotations": "the annotations in the files",
    "bids": "BIDS events files",
}
_CORPORA = {
    "synthetic": "Synthetic EEG of EEGDM's simulator",
    "folder": "EEG recordings",
    "bids": "EEG recordings in BIDS",
    "chbmit": "EEG recordings of the corpus CHB-MIT",
    "siena": "EEG recordings of the Siena Scalp EEG database",
}
"""What recordings of a corpus are called; of the others, the corpus's name in capitals is shown."""
_SCHEDULES = {"squaredcos_cap_v2": "squared-cosine"}
_POOLS = {"std": "standard deviation"}
_FORWARDS = {
    "noiseless": ", of the signal scaled as at that step, without noise",
    "noisy": ", of the signal with the noise of that step",
}
_MISSING = {"drop": "without those that a file lacks", "interpolate": "interpolated where lacking"}


# ---------------------------------------------------------------------------------- recordings


def recordings(made: Artifact) -> str:
    """Say which recordings were read, and how."""
    corpus, s = made.config["corpus"], made.summary
    what = _CORPORA.get(corpus["name"], f"EEG recordings of the corpus {corpus['name'].upper()}")
    return (
        f"{what} were read with EEGDM {made.version} [@method]:"
        f" {_amount(s)}.{_failed(s)}{_whose(s)}"
        f" {_signals(made.config['signal'])}{_annotated(corpus, s)}"
    )


def _amount(s: Settings) -> str:
    return f"{_many(s['recordings'], 'recording')} ({s['hours']:g} h) of {_people(s['subjects'])}"


def _failed(summary: Settings) -> str:
    n = summary["failed"]
    return f" {_many(n, 'further recording')} could not be used." if n else ""


def _whose(summary: Settings) -> str:
    found = summary["subjects_from"]
    return f" Who is a person was taken from {found}." if found else ""


def _signals(c: Settings) -> str:
    montage = _MONTAGES.get(
        c["montage"], f"The first {c['n_referential']} channels of each file were taken as they are"
    )
    lacking = (
        "channels that a file lacks were left out"
        if c["missing"] == "drop"
        else "recordings that lack one of them were not used"
    )
    when = " Each window was filtered when it was read." if c["per_window"] else ""
    return f"{montage}; {lacking}.{_filters(c)}{when}"


def _filters(c: Settings) -> str:
    notch = f", notch-filtered at {_list(_numbers(c['notch']))} Hz" if c["notch"] else ""
    return (
        f" Signals were band-pass filtered from {c['highpass']:g} to {c['lowpass']:g} Hz{notch} and"
        f" resampled to {c['sfreq']:g} Hz, with the zero-phase FIR filters and the resampling of"
        " MNE-Python [@mne]."
    )


def _annotated(corpus: Settings, summary: Settings) -> str:
    if corpus["events"] not in _EVENTS or not summary["events"]:
        return ""
    counts = summary["events_per_label"]
    each = ", ".join(f"{label}: {n:,}" for label, n in counts.items())
    return f" {_many(summary['events'], 'event')} ({each}) came from {_EVENTS[corpus['events']]}."


def shown(signal: Settings) -> str:
    """Say what a model is shown of recordings; nothing if they are as they are."""
    said = []
    if signal["spread"]:
        said.append("each recording was scaled by its robust spread")
    if signal["mu"]:
        said.append(f"amplitudes above 100 µV were companded (µ = {signal['mu']:g})")
    if signal["whiten"]:
        said.append(f"windows were whitened by a filter of {len(signal['whiten'])} coefficients")
    return f" For the model, {_list(said)}." if said else ""


def windows(c: Settings) -> str:
    """Say how recordings were cut."""
    if c["policy"] == "event":
        edge = (
            "continued at the other end where it stuck out of the recording"
            if c["edge"] == "wrap"
            else "left out where it stuck out of the recording"
        )
        return f"One window of {c['duration_s']:g} s was centred on each event, and {edge}."
    more = ", with further windows along events" if c["policy"] == "grid+seizure" else ""
    step = c["step_s"] or c["duration_s"]
    return f"Windows of {c['duration_s']:g} s were cut every {step:g} s{more}."


def labelling(c: Settings, label_map: Mapping[str, str]) -> str:
    """Say how windows got their labels; nothing where they are those of the events that they lie
    around.

    Args:
        label_map: what labels were read as; empty if they were read as they are.
    """
    read = ", ".join(f"{text} as {name}" for text, name in label_map.items())
    mapped = f" Of the labels, these were read: {read}." if read else ""
    if c["policy"] == "event":
        return mapped
    rule = (
        "started or ended in it"
        if c["labels"] == "published"
        else f"shared more than {c['min_overlap_s']:g} s with it"
    )
    rest = "were left out" if c["background"] is None else f"were labelled {c['background']}"
    return f"{mapped} A window got the label of the event that {rule}; windows without one {rest}."


def division(c: Settings) -> str:
    """Say how recordings were divided."""
    left_out = f" Left out were {_list(c['leave_out'])}." if c["leave_out"] else ""
    return facts.division_sentence(WindowConfig(**c)) + left_out


# ----------------------------------------------------------------------------------- backbones


def size(
    c: Settings, parameters: int | None = None, what: str = "a diffusion model of single channels"
) -> str:
    """Say what a backbone is, and how large."""
    counted = f"; {parameters:,} parameters" if parameters else ""
    return (
        f"{what} ({_many(c['n_blocks'], 'residual block')} of width"
        f" {c['d_model']} with bidirectional state-space layers [@s4d] of state size"
        f" {c['d_state']}{counted})"
    )


def random_backbone(sizes: Settings | None) -> str:
    """Say that nothing was pretrained."""
    what = "The backbone" if sizes is None else f"The backbone, {size(sizes)},"
    return f"{what} had random weights: nothing was pretrained [@method]."


def packaged(found: Backbone) -> str:
    """Say which backbone of the package was used, in the first words of its card."""
    data = " ".join(str(found.about["data"]).split("\n\n")[0].split()).rstrip(":.")
    return (
        f"The backbone was `{found.name}`, which comes with EEGDM:"
        f" {size(found.about['config'])} [@method]. {data}.{_filters(found.about['signal'])}"
        f"{shown(found.about['signal'])}"
    )


def pretraining(made: Artifact, about: Settings, learned: Artifact | None, each: str = "") -> str:
    """Say how a backbone was pretrained.

    Args:
        about: its `config.json`.
        learned: the recordings that it learned from, if they were found.
        each: what has a backbone of its own, such as "fold".
    """
    config, c = made.config, made.config["pretrain"]
    rate = f"learning rate {c['lr']:g}"
    if c["last_lr"] is not None:
        rate += f", to {c['last_lr']:g} by a cosine"
    if c["ssm_lr"] is not None:
        rate += f", {c['ssm_lr']:g} for decays, frequencies and time steps"
    most = (
        f" At most {c['max_windows']:,} windows of each part were used." if c["max_windows"] else ""
    )
    people = f" It learned from {_people(len(about['people']))}." if about.get("people") else ""
    which = f"For each {each}, the backbone," if each else "The backbone,"
    sizes, parameters = config["backbone"], made.summary.get("parameters")
    described = size(sizes, parameters)
    aim = f"the velocity [@velocity] at {_noise(config['diffusion'])}"
    if "teacher" in made.inputs:
        described = size(sizes, parameters, "a network of single channels")
        aim = (
            "the standardised logs of the tokens of a larger model (its teacher, with the"
            f" fingerprint {made.inputs['teacher']}) by linear maps that were then discarded"
        )
    return (
        f"{which} {described}, was pretrained"
        f" without labels [@method].{shown(config['signal'])} {_learned_windows(config, learned)}"
        f"{most} It learned to predict {aim},"
        f" with AdamW ({rate}, weight decay {c['weight_decay']:g}{_clipped(c)}), in"
        f" {_many(c['epochs'], 'epoch')} with batches of {c['batch_size']:,} single-channel windows"
        f" (seed {config['seed']}). Its weights are an exponential moving average (decay"
        f" {c['ema']['decay']:g}).{people}{compat(config)}"
    )


def _noise(c: Settings) -> str:
    is_linear = c["schedule"] == "linear"
    betas = f", betas from {c['beta_start']:g} to {c['beta_end']:g}" if is_linear else ""
    kind = _SCHEDULES.get(c["schedule"], c["schedule"])
    return f"{c['n_steps']} diffusion steps of a {kind} noise schedule{betas}"


def _clipped(c: Settings) -> str:
    return f", gradients clipped to a norm of {c['grad_clip']:g}" if c["grad_clip"] else ""


def _learned_windows(config: Settings, learned: Artifact | None) -> str:
    c, how = config["windows"], config["pretrain"]["windows"]
    if how == "auto" and learned is None:  # whether there are events decides
        return f"Its windows were {c['duration_s']:g} s long."
    on_grid = how == "grid" or (learned is not None and not learned.summary["events"])
    return windows({**c, "policy": "grid"} if on_grid else c)


def compat(config: Settings) -> str:
    """Say that errors of the published code were repeated; nothing if they were not."""
    if "compat" not in config:
        return ""
    return " The errors of the published code were repeated (compat=published)."


# ------------------------------------------------------------------------- tokens, embeddings


def tokens(c: Settings) -> str:
    """Say what is read of a backbone."""
    ways = _list(
        f"the {_POOLS.get(pool, pool)} of the {query} activities"
        for query, pool in zip(c["query"], c["pool"], strict=True)
    )
    every = "" if c["stride"] == c["window"] else f", one every {c['stride'] / SFREQ:g} s,"
    return (
        f"The tokens of a window are {ways} of the backbone over stretches of"
        f" {c['window'] / SFREQ:g} s{every} of each block and channel, at diffusion step"
        f" {c['step']}, counted from 0{_FORWARDS.get(c['forward'], '')}."
    )


def embeddings(made: Artifact) -> str:
    """Say what was embedded, and how."""
    c, s = made.config, made.summary
    how = [
        "the file's own electrodes" if c["channels"] == "file" else "the model's bipolar channels",
        _MISSING.get(c["missing"], ""),
        _notched(c["notch"]),
        "each recording's own sampling frequency" if c["rate"] == "native" else "",
    ]
    return (
        f"{_many(s['windows'], 'window')} of {c['window_s']:g} s, one every {c['step_s']:g} s, of"
        f" {_amount(s)}, were embedded with EEGDM {made.version} [@method].{_failed(s)}{_whose(s)}"
        " Their signals were treated like those that the backbone learned from"
        f" ({'; '.join(filter(None, how))})."
    )


def _notched(notch: str | Sequence[float] | None) -> str:
    """Say which mains frequencies were filtered where it was not as the model has it."""
    if notch is None:
        return ""
    if isinstance(notch, str):
        return "notch filter by each recording's hum"
    return f"notch filter at {_list(_numbers(notch))} Hz" if notch else "no notch filter"


# --------------------------------------------------------------------------------- classifiers


def fusion(c: Settings, classes: Sequence[str]) -> str:
    """Say what a classifier does with tokens."""
    layers = _many(c["depth"], "pair")
    stack = f"{layers} of attention and feed-forward layers ({c['n_heads']} heads)"
    what = {
        "lft": (
            f"A latent fusion transformer fused the tokens of all blocks and channels into"
            f" {_many(c['n_tokens'], 'token')} per stretch, which {stack} classified"
        ),
        "none": f"The tokens of all blocks and channels, not fused, were classified by {stack}",
        "mean": f"The mean of the tokens over blocks was classified by {stack}",
    }[c["kind"]]
    blocks = ""
    if c["first_block"] or c["last_block"] is not None:
        until = f"before {c['last_block']}" if c["last_block"] is not None else "to the last"
        blocks = f" Of the backbone's blocks, those from {c['first_block']} {until} were read."
    ways = [f"divided by their geometric mean over each {c['centre']}"] if c["centre"] else []
    ways += ["standardised by the training part"] if c["standardise"] else []
    treated = f" Tokens were {_list(ways)}." if ways else ""
    one = f"by one logit, of {classes[0]}" if len(classes) == 1 else f"as {_list(classes, 'or')}"
    return f"{what} {one} [@method].{blocks}{treated}"


def training(c: Settings, classifiers: Sequence[Artifact]) -> str:
    """Say how classifiers were trained that differ in seed and fold alone."""
    loss = {"cross_entropy": "cross entropy", "binary": "binary cross entropy"}[c["loss"]]
    said = []
    if c["loss"] == "cross_entropy" and c["label_smoothing"]:
        said.append(f"label smoothing {c['label_smoothing']:g}")
    if c["class_weights"] is not None:
        said.append(f"class weights {', '.join(_numbers(c['class_weights']))}")
    if c["pos_weight"] is not None:
        said.append(f"weight {c['pos_weight']:g} of the positive class")
    how = f" with {_list(said)}" if said else ""
    most = f" At most {c['max_samples']:,} windows were learned from." if c["max_samples"] else ""
    frozen = "together with the backbone" if c["train_backbone"] else "on the frozen backbone"
    return (
        f"{_runs(classifiers)} {frozen} with AdamW (one-cycle learning rate of at most"
        f" {c['max_lr']:g}, weight decay {c['weight_decay']:g}{_clipped(c)}), {loss}{how}, and"
        f" batches of {c['batch_size']:,} windows, for at most {_many(c['epochs'], 'epoch')}; it"
        f" stopped after {_many(c['patience'], 'epoch')} without improvement, from epoch"
        f" {c['patience_from']} on. The weights are an exponential moving average (decay"
        f" {c['ema']['decay']:g}), of the epoch with the best {SCORE_NAMES[c['monitor']]} on the"
        f" validation part.{most}"
    )


def _runs(classifiers: Sequence[Artifact]) -> str:
    seeds = sorted({one.config["seed"] for one in classifiers})
    cuts = [one.config["windows"] for one in classifiers]
    folds = sorted({c["fold"] for c in cuts if c["split"] == "kfold"})
    said = [
        f"{name if len(values) == 1 else f'{name}s'} {_list(map(str, values))}"
        for name, values in (("seed", seeds), ("fold", folds))
        if values
    ]
    n = len(classifiers)
    times = "The classifier was trained" if n == 1 else f"{n} classifiers were trained"
    return f"{times} ({', '.join(said)})"


def linear_head(made: Artifact, about: Settings) -> str:
    """Say how `eegdm fit` made a classifier of marks.

    Args:
        about: its `config.json`.
    """
    data, recipe, c = about["data"], about["recipe"], made.config["windows"]
    counts = ", ".join(f"{label}: {n:,}" for label, n in data["windows"].items())
    centred = f" Tokens were centred {recipe['centred']}." if "centred" in recipe else ""
    rest = (
        f" Windows of marked recordings that no mark touches were labelled {c['background']}."
        if c["background"] is not None
        else ""
    )
    blocks = "all blocks" if recipe["blocks"] == "all" else f"{recipe['blocks']} of the blocks"
    read = "each channel" if recipe["channels"] == "each" else "the mean over channels"
    return (
        f"A linear head was fitted with EEGDM {made.version} [@method], by ridge regression on the"
        f" logarithm of the tokens of marked windows of {c['duration_s']:g} s ({counts}), of"
        f" {_people(data['people'])} in {_many(data['recordings'], 'recording')}. A window got the"
        f" label that covers at least {c['min_overlap_s']:g} s of it.{rest}{centred} The head reads"
        f" the tokens of {blocks}, of {read}; this and the penalty"
        f" ({recipe['penalty']:g}) were chosen on {recipe['chosen over']}."
    )


def rule(c: Settings, classes: Sequence[str]) -> Iterator[str]:
    """Say how probabilities become events, or one decision; nothing where a model has no rule."""
    temperature = c.get("temperature", 1)
    scaled = "" if temperature == 1 else f"Logits are divided by {temperature:.3g}. "
    if c.get("decide") == RECORDING:
        yield f"{scaled}A recording gets the class of the highest mean probability of its windows."
    elif "threshold" in c:
        events = _list(c.get("event_classes") or classes, "or")
        yield (
            f"{scaled}To mark events, probabilities are averaged over {c['smoothing_s']:g} s;"
            f" stretches in which that of {events} reaches {c['threshold']:.3g} are events, if they"
            f" last {c['min_duration_s']:g} s or longer."
        )


# -------------------------------------------------------------------------------------- scores


def scores(numbers: Settings, rate: float | None) -> Iterator[str]:
    """Say what was tested, what the scores mean, and what they were computed with.

    Args:
        numbers: `report.json`.
        rate: by which test windows were resampled; None: they were not.
    """
    sizes = "; ".join(
        f"{_many(row['windows'], 'window')} of {_people(row['subjects'])} in"
        f" {_many(row['recordings'], 'recording')}{f' ({of})' if (of := row.get('of')) else ''}"
        for row in numbers["counts"]
        if row["split"] == "test"
    )
    resampled = f" They were resampled by a factor of {rate:g}." if rate else ""
    units = _list(sorted({run["interval_unit"] for run in numbers["runs"]}))
    others = [name for name, found in numbers["baselines"].items() if found["missing"] is None]
    beside = f" They were compared with {_list(others)}. {numbers['rules']}" if others else ""
    yield (
        f"{numbers['split']} Tested were {sizes}.{resampled} Scores are given x100, with 95 %"
        f" intervals by bootstrap over {units}.{beside}"
    )
    yield " ".join(
        f"{_capitalised(SCORE_NAMES[name])}: {_capitalised(meaning(name, dict(numbers)))}"
        for name in numbers["headline"]
    )
    made_with = numbers["provenance"]
    yield (
        f"Scores were computed with EEGDM {made_with['eegdm']}, PyTorch {made_with['torch']},"
        f" MNE-Python {made_with['mne']} and Python {made_with['python']}."
    )


# --------------------------------------------------------------------------------------- words


def _list(words: Iterable[str], joint: str = "and") -> str:
    """Return words as `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:g}" for value in values]


def _many(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def _people(n: int) -> str:
    return "1 person" if n == 1 else f"{n:,} people"


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
