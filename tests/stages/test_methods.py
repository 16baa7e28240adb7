"""`eegdm info --methods` says what the folders say, whatever was done, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import eegdm
from eegdm import artifacts, cli
from eegdm.config import FinetuneConfig, FusionConfig, LatentConfig, SignalConfig, WindowConfig
from eegdm.errors import UserError
from eegdm.models.pretrained import weights_fingerprint
from eegdm.report import method_sentences as sentences
from eegdm.report.lineage import Nearby
from eegdm.report.methods import REFERENCES, describe_methods
from stages.tiny import Finished

CONSTANTS = {
    "22": "channels of the TCP montage",
    "16": "channels of CHB-MIT",
    "100": "µV, and what scores are given times",
    "95": "% of the intervals",
    "16.67": "balanced accuracy of guessing among six classes",
}
"""Numbers in the sentences that no folder holds, beside what companding, references and the words
of a score need.
"""


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """A folder that is near no other test's."""
    return tmp_path / "a" / "b" / "c"


def methods(folder: Path) -> str:
    return "\n".join(describe_methods(folder))


def text_of(folder: Path) -> str:
    """The paragraphs alone."""
    return methods(folder).split("\nReferences\n")[0]


def leaves(value: Any) -> Iterator[Any]:
    """All numbers and texts in nested JSON, and how long its lists are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from leaves(inner)
    elif isinstance(value, list):
        yield len(value)
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def known(*folders: Path) -> set[str]:
    """Every number that these folders hold, as a text may write it."""
    found: set[str] = set(CONSTANTS)
    for folder in folders:
        for name in ("manifest.json", "config.json", "report.json"):
            if (folder / name).is_file():
                for leaf in leaves(json.loads((folder / name).read_text())):
                    if isinstance(leaf, str):
                        found |= set(numbers(leaf))
                    elif isinstance(leaf, int | float):
                        # A pool of 200 samples at 200 Hz is 1 s; three digits are shown of a rule
                        found |= {f"{leaf:g}", f"{leaf:,}", f"{leaf / 200:g}", f"{leaf:.3g}"}
    return found


def numbers(text: str) -> list[str]:
    return [n.rstrip(".,") for n in re.findall(r"(?<![\w.])\d[\d.,]*", text)]


@pytest.mark.parametrize(
    "kind", ["recordings", "backbone", "latents", "classifier", "report", "embeddings", "detector"]
)
def test_every_number_is_in_the_folder_or_in_those_that_it_was_made_from(
    kind: str, finished: Finished, request: pytest.FixtureRequest
) -> None:
    own = {"embeddings", "detector"}
    folder = request.getfixturevalue(kind) if kind in own else getattr(finished, kind)
    upstream = [*finished[2:]]
    if kind in own:
        store = folder if kind == "embeddings" else folder.parent / "embeddings" / "tuev"
        upstream = [store, finished.backbone, finished.recordings]
    text = re.sub(r"\[\d+\]", "", text_of(folder))
    assert len(numbers(text)) > 5
    strange = set(numbers(text)) - known(folder, *upstream)
    assert not strange, text


def test_a_report_tells_the_whole_way(finished: Finished) -> None:
    text = text_of(finished.report)
    for said in (
        "EEG recordings of the corpus TUEV were read with EEGDM",
        "7 recordings (0.14 h) of 7 people. Who is a person was taken from the corpus's layout.",
        "The 22 bipolar channels of the TCP montage were derived from the electrodes",
        "band-pass filtered from 0.1 to 75 Hz, notch-filtered at 50 Hz and resampled to 200 Hz",
        "(2 residual blocks of width 8 with bidirectional state-space layers [3] of state size 4;"
        " 1,817 parameters)",
        "at 10 diffusion steps of a squared-cosine noise schedule, with AdamW (learning rate 0.002,"
        " weight decay 0, gradients clipped to a norm of 1), in 2 epochs with batches of 64"
        " single-channel windows (seed 0)",
        "It learned from 4 people.",
        "amplitudes above 100 µV were companded (µ = 255)",
        "One window of 5 s was centred on each event",
        "the standard deviation of the gate activities of the backbone over stretches of 1 s",
        "1 pair of attention and feed-forward layers (2 heads) classified as SPSW, GPED, PLED,"
        " EYEM, ARTF or BCKG",
        "The classifier was trained (seed 0) on the frozen backbone with AdamW (one-cycle learning"
        " rate of at most 0.002",
        "cross entropy with label smoothing 0.1",
        "the best kappa on the validation part",
        "To mark events, probabilities are averaged over 1 s",
        "Recordings are divided as published for this corpus",
        "Tested were 132 windows of 2 people in 2 recordings.",
        "with 95 % intervals by bootstrap over subjects",
        "Kappa: Agreement with the annotations beyond what guessing",
        f"Scores were computed with EEGDM {eegdm.__version__}, PyTorch",
    ):
        assert said in text, said
    assert text.count("were read with EEGDM") == 1 and text.count("Recordings are divided") == 1
    whole = methods(finished.report)
    assert "Notes" not in whole and whole.endswith(f"[4] {REFERENCES['velocity']}")
    for key in REFERENCES.values():
        assert whole.count(key) == 1


def test_a_recipe_s_folder_is_described_by_what_was_made_last(finished: Finished) -> None:
    recipe = finished.report.parent
    assert methods(recipe) == methods(finished.report)


def test_what_is_not_there_is_noted_and_left_out(finished: Finished, apart: Path) -> None:
    alone = apart / "moved"
    shutil.copytree(finished.classifier, alone)
    text = methods(alone)
    made = artifacts.read_manifest(alone)
    for kind in ("recordings", "backbone"):
        assert f"The {kind} folder with the fingerprint {made.inputs[kind]} is not near" in text
    assert "7 recordings" not in text and "diffusion steps" not in text
    assert "The backbone was a diffusion model of single channels (2 residual blocks" in text
    assert "The classifier was trained (seed 0)" in text
    assert not set(numbers(re.sub(r"\[\d+\]", "", text_of(alone)))) - known(alone)


def test_another_version_is_noted(finished: Finished, apart: Path) -> None:
    moved = apart / "recordings"
    shutil.copytree(finished.recordings, moved)
    manifest = json.loads((moved / "manifest.json").read_text())
    (moved / "manifest.json").write_text(json.dumps({**manifest, "version": "0.0.7"}))
    text = methods(moved)
    assert "read with EEGDM 0.0.7" in text and "was written by eegdm 0.0.7, and the" in text


def test_a_backbone_of_the_package_is_known_by_its_weights(finished: Finished) -> None:
    near = Nearby(finished.classifier)
    found = near.backbone(weights_fingerprint(eegdm.load("mini")))
    assert found is not None and found.name == "mini" and not near.missing
    said = sentences.packaged(found)
    assert said.startswith("The backbone was `mini`, which comes with EEGDM: a diffusion model")
    assert "open recordings of 28 people (1.93 h in 78 recordings)." in said
    assert "scaled by its robust spread and windows were whitened by a filter of 17 coeff" in said
    assert near.backbone("0" * 16) is None and near.missing == [("backbone", "0" * 16)]


def test_a_detector_tells_what_it_learned_from(
    detector: Path, finished: Finished, apart: Path
) -> None:
    shutil.copytree(detector.parent, apart)
    broken = apart / "embeddings" / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("of somebody else")
    text = text_of(apart / detector.name)
    store = artifacts.read_manifest(apart / "embeddings" / "tuev").summary
    assert f"{store['windows']} windows of 5 s, one every 1 s, of 7 recordings" in text
    assert "by ridge regression on the logarithm of the tokens of marked windows of 5 s" in text
    about = json.loads((detector / "config.json").read_text())
    assert f"EYEM: {about['data']['windows']['EYEM']}" in text and "labelled rest" in text
    for said in (about["metrics"]["cross-validated"], *about["metrics"]["beside"]):
        assert said in text


WINDOWS, FUSION, TRAINING = (asdict(c()) for c in (WindowConfig, FusionConfig, FinetuneConfig))
SIGNAL, LATENTS = asdict(SignalConfig()), asdict(LatentConfig())
RULE = {"temperature": 0.5, "smoothing_s": 3.0, "threshold": 0.25, "min_duration_s": 2.0}


@pytest.mark.parametrize(
    ("say", "changed", "words"),
    [
        (sentences.windows, {**WINDOWS, "policy": "grid"}, "of 5 s were cut every 5 s."),
        (
            sentences.windows,
            {**WINDOWS, "policy": "grid+seizure", "step_s": 2.5},
            "every 2.5 s, with further windows along events.",
        ),
        (sentences.windows, WINDOWS, "and left out where it stuck out"),
        (
            lambda c: sentences.labelling(c, {"T0": "rest"}),
            {**WINDOWS, "policy": "grid", "min_overlap_s": 1.5, "background": None},
            "read: T0 as rest. A window got the label of the event that shared more than 1.5 s with"
            " it; windows without one were left out.",
        ),
        (lambda c: sentences.labelling(c, {}), WINDOWS, ""),
        (
            sentences.division,
            {**WINDOWS, "split": "kfold", "kfold_unit": "session", "leave_out": ["a", "b"]},
            "Whole sessions are divided at random (seed 4523) into 5 folds; each fold is tested by"
            " a classifier that did not learn from it, and the next fold validates. Left out were a"
            " and b.",
        ),
        (sentences.shown, {**SIGNAL, "mu": 0.0}, ""),
        (sentences.shown, {**SIGNAL, "whiten": [1.0, 0.5]}, "whitened by a filter of 2 coeff"),
        (
            sentences.tokens,
            {**LATENTS, "query": ["gate", "inter"], "pool": ["std", "mean"], "stride": 100}
            | {"forward": "noisy"},
            "the standard deviation of the gate activities and the mean of the inter activities of"
            " the backbone over stretches of 1 s, one every 0.5 s, of each block and channel, at"
            " diffusion step 1, counted from 0, of the signal with the noise of that step.",
        ),
        (
            lambda c: sentences.fusion(c, ["seizure"]),
            {**FUSION, "kind": "none", "first_block": 3, "centre": "subject", "standardise": True},
            "by one logit, of seizure [@method]. Of the backbone's blocks, those from 3 to the last"
            " were read. Tokens were divided by their geometric mean over each subject and"
            " standardised by the training part.",
        ),
        (
            lambda c: sentences.fusion(c, ["a", "b"]),
            {**FUSION, "kind": "mean", "last_block": 10},
            "those from 0 before 10 were read.",
        ),
        (
            lambda c: "".join(sentences.rule(c, ["a", "b"])),
            {**RULE, "event_classes": ["b"]},
            "Logits are divided by 0.5. To mark events, probabilities are averaged over 3 s;"
            " stretches in which that of b reaches 0.25 are events, if they last 2 s or longer.",
        ),
        (
            lambda c: "".join(sentences.rule(c, ["a", "b"])),
            {**RULE, "decide": "recording"},
            "A recording gets the class of the highest mean probability of its windows.",
        ),
        (lambda c: "".join(sentences.rule(c, ["a"])), {}, ""),
        (sentences.random_backbone, None, "The backbone had random weights: nothing was pretr"),
        (sentences.compat, {"compat": "published"}, "errors of the published code were repeated"),
    ],
)
def test_each_setting_has_its_words(
    say: Callable[[Any], str], changed: dict[str, Any], words: str
) -> None:
    said = say(changed)
    assert words in said if words else said == ""


def test_several_classifiers_are_told_together(finished: Finished) -> None:
    one = artifacts.read_manifest(finished.classifier)
    kfold = {**one.config["windows"], "split": "kfold"}
    several = [
        replace(one, config={**one.config, "seed": seed, "windows": {**kfold, "fold": fold}})
        for seed in (0, 1)
        for fold in (0, 1, 2)
    ]
    binary = {**TRAINING, "loss": "binary", "pos_weight": 150.51, "train_backbone": True}
    said = sentences.training({**binary, "max_samples": 1000}, several)
    assert said.startswith(
        "6 classifiers were trained (seeds 0 and 1, folds 0, 1 and 2) together with the backbone"
    )
    assert "binary cross entropy with weight 150.51 of the positive class" in said
    assert said.endswith(" At most 1,000 windows were learned from.")


def test_the_command_prints_one_of_its_answers(finished: Finished, tmp_path: Path) -> None:
    def info(*words: object) -> Any:
        return CliRunner().invoke(cli.app, ["info", *map(str, words)])

    shown = info(finished.latents, "--methods")
    assert shown.exit_code == 0 and shown.stdout == methods(finished.latents) + "\n"
    for words, fault in (
        ((finished.latents, "--methods", "--privacy"), "asked one at a time"),
        ((finished.latents, "--methods", "--verify"), "asked one at a time"),
        ((tmp_path, "--methods"), "is not there or was not written by eegdm"),
    ):
        refused = info(*words)
        assert isinstance(refused.exception, UserError) and fault in str(refused.exception)


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m["config"].pop("latents"),
        lambda m: m["config"].update(windows=None),
        lambda m: m["config"]["latents"].update(query=1),
        lambda m: m.update(kind="prediction"),
        lambda m: m["inputs"].clear(),
    ],
)
def test_a_manifest_of_somebody_else_is_one_line(
    damage: Callable[[dict[str, Any]], Any], finished: Finished, apart: Path
) -> None:
    shutil.copytree(finished.latents, apart / "latents")
    path = apart / "latents" / "manifest.json"
    manifest = json.loads(path.read_text())
    damage(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        methods(apart / "latents")
    assert "\n" not in str(caught.value)
