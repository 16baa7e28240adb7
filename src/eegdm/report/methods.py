"""`eegdm info FOLDER --methods`: what was done, as text for a paper.

Each number in it is from a manifest, from the `config.json` of a model, or from `report.json`, of
the folder or of those that it was made from. What these do not say is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eegdm import __version__, artifacts
from eegdm.artifacts import Artifact
from eegdm.errors import UserError
from eegdm.models.locate import CONFIG_FILE
from eegdm.report import method_sentences as sentences
from eegdm.report.evaluation_page import read_evaluation, what_was_done
from eegdm.report.lineage import Nearby

REFERENCES = {
    "method": (
        "Puah JH, Goh SK, Zhang Z, Ye Z, Chan CK, Lim KS, Fong SL, Woon KS (2025). EEGDM: EEG"
        " Representation Learning via Generative Diffusion Model. arXiv:2508.14086."
    ),
    "mne": (
        "Gramfort A, Luessi M, Larson E, Engemann DA, Strohmeier D, Brodbeck C, et al. (2013). MEG"
        " and EEG data analysis with MNE-Python. Frontiers in Neuroscience 7:267."
        " doi:10.3389/fnins.2013.00267."
    ),
    "s4d": (
        "Gu A, Gupta A, Goel K, Ré C (2022). On the Parameterization and Initialization of Diagonal"
        " State Space Models. arXiv:2206.11893."
    ),
    "velocity": (
        "Salimans T, Ho J (2022). Progressive Distillation for Fast Sampling of Diffusion Models."
        " arXiv:2202.00512."
    ),
}
"""What the text cites, by the key that stands in it as `[@key]`."""
_KEY = re.compile(r"\[@(\w+)\]")
LAST_FIRST = ("report", "classifier", "latents", "backbone", "recordings")
"""Kinds of folders of a recipe, the one that is made last first."""


def describe_methods(folder: str | Path) -> Iterator[str]:
    """Yield the lines of a methods section: paragraphs, references, and notes to its author.

    Args:
        folder: one that a stage, `eegdm embed`, `eegdm fit` or `eegdm evaluate` wrote, or that of a
            recipe. The folders that it was made from are looked for near it.

    Raises:
        UserError: no such folder, or its files do not hold what eegdm writes there.
    """
    folder = _made_last(Path(folder))
    near = Nearby(folder)
    try:
        paragraphs, version = _described(folder, near)
    except UserError:
        raise
    # Folders may come from strangers: what the sentences trip over is refused here
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"{folder}: its manifest, or that of a folder that it was made from, is not one that"
            f" this version of eegdm wrote ({error!r:.200})"
        ) from error
    yield from _with_references(paragraphs)
    if notes := list(_notes(near, version)):
        yield "\nNotes, not for the paper\n"
        yield from (f"- {note}" for note in notes)


def _made_last(folder: Path) -> Path:
    """Return the folder, or of a recipe's folders the one that was made last."""
    if not artifacts.is_finished(folder):
        for kind in LAST_FIRST:
            for manifest in sorted((folder / kind).glob(f"**/{artifacts.MANIFEST}")):
                return manifest.parent
    return folder


def _described(folder: Path, near: Nearby) -> tuple[list[str], str]:
    """Return the paragraphs about a folder, and the version that wrote it."""
    if not artifacts.is_finished(folder) and (evaluation := read_evaluation(folder)):
        settings = evaluation.about.settings
        store = near.find("embeddings", settings["features"])
        done = (f"{subject}: {said}." for subject, said in what_was_done(evaluation))
        said = [] if store is None else list(_embeddings(store, near))
        return [*said, " ".join(done)], settings["version"]
    made = artifacts.open_artifact(folder)
    if made.kind not in _OF_KIND:
        raise UserError(
            f"{folder}: holds a {made.kind}; --methods describes {', '.join(_OF_KIND)}, and what"
            " `eegdm evaluate` wrote"
        )
    return list(_OF_KIND[made.kind](made, near)), made.version


def _with_references(paragraphs: Sequence[str]) -> Iterator[str]:
    """Yield the text, in which the number of a reference stands for its key, and the references in
    order of appearance.
    """
    text = "\n\n".join(paragraphs)
    cited = list(dict.fromkeys(_KEY.findall(text)))
    yield _KEY.sub(lambda key: f"[{cited.index(key[1]) + 1}]", text)
    if cited:
        yield "\nReferences\n"
        yield from (f"[{k}] {REFERENCES[key]}" for k, key in enumerate(cited, start=1))


def _notes(near: Nearby, version: str) -> Iterator[str]:
    for kind, fingerprint in near.missing:
        yield (
            f"The {kind} folder with the fingerprint {fingerprint} is not near this one, or has"
            " changed since; what only that folder says is left out."
        )
    if version != __version__:
        yield (
            f"The folder was written by eegdm {version}, and the sentences describe what"
            f" {__version__} does; CHANGELOG.md has what changed in between."
        )


# ------------------------------------------------------------------------ the way to each folder


def _recordings(made: Artifact, near: Nearby) -> Iterator[str]:
    yield sentences.recordings(made)


def _read_recordings(made: Artifact, near: Nearby) -> Iterator[str]:
    """The recordings that a folder was made from, if they are found."""
    found = near.find("recordings", made.inputs.get("recordings"))
    if found is not None:
        yield sentences.recordings(found)


def _backbone(made: Artifact, near: Nearby) -> Iterator[str]:
    yield from _read_recordings(made, near)
    about = artifacts.read_json(made / CONFIG_FILE)
    learned = near.find("recordings", made.inputs.get("recordings"))
    yield sentences.pretraining(made, about, learned)


def _backbone_of(
    made: Artifact,
    identity: str,
    near: Nearby,
    sizes: Mapping[str, Any] | None = None,
    each: str = "",
    named: str | None = None,
) -> Iterator[str]:
    """The backbone that a folder was made with, and its own recordings where they are others.

    Args:
        identity: the fingerprint of its folder, or of its weights.
        sizes: the backbone's, where its folder may be missing.
        each: what has a backbone of its own, such as "fold".
        named: the folder of the model that may have such weights.
    """
    if identity.startswith("random"):
        yield sentences.random_backbone(sizes)
        return
    found = near.backbone(identity, named)
    if found is None:
        if sizes is not None:
            yield f"The backbone was {sentences.size(sizes)} [@method]."
    elif found.made is None:
        yield sentences.packaged(found)
    else:
        learned = near.find("recordings", found.made.inputs.get("recordings"))
        if learned is not None and learned.fingerprint != made.inputs.get("recordings"):
            yield f"For the backbone: {sentences.recordings(learned)}"
        yield sentences.pretraining(found.made, found.about, learned, each)


def _latents(made: Artifact, near: Nearby) -> Iterator[str]:
    yield from _read_recordings(made, near)
    yield from _backbone_of(made, str(made.inputs["backbone"]), near)
    windows = sentences.windows(made.config["windows"])
    yield f"{windows} {sentences.tokens(made.config['latents'])}"


def _embeddings(made: Artifact, near: Nearby) -> Iterator[str]:
    yield sentences.embeddings(made)
    # As `eegdm embed` wrote it; the weights decide whether that is still the model
    named = artifacts.read_json(made / "origin.json")["model"]
    yield from _backbone_of(made, made.config["model"]["weights"], near, named=named)


def _classifier(made: Artifact, near: Nearby) -> Iterator[str]:
    if "fit" in made.config:
        yield from _detector(made, near)
        return
    yield from _classifiers([made], near)
    yield sentences.division(made.config["windows"])


def _classifiers(made: Sequence[Artifact], near: Nearby) -> Iterator[str]:
    """The way to classifiers of one plan, without how recordings were divided."""
    first = made[0]
    config, about = first.config, artifacts.read_json(first / CONFIG_FILE)
    model = about["config"]
    yield from _read_recordings(first, near)
    backbones = {one.inputs["backbone"] for one in made}
    each = "fold" if len(backbones) > 1 else ""
    yield from _backbone_of(first, str(first.inputs["backbone"]), near, model["backbone"], each)
    cut = sentences.windows(config["windows"])
    cut += sentences.labelling(config["windows"], config["corpus"]["label_map"])
    shown = sentences.shown(config["signal"])
    yield f"{cut}{shown} {sentences.tokens(config['latents'])}"
    fusion = sentences.fusion(config["fusion"], model["classes"])
    yield f"{fusion} {sentences.training(config['finetune'], made)}{sentences.compat(config)}"
    yield from sentences.rule(model["decision"], model["classes"])


def _detector(made: Artifact, near: Nearby) -> Iterator[str]:
    """What `eegdm fit` did."""
    about = artifacts.read_json(made / CONFIG_FILE)
    store = near.find("embeddings", made.inputs.get("embeddings"))
    if store is not None:
        yield from _embeddings(store, near)
    yield sentences.linear_head(made, about)
    yield from sentences.rule(about["config"]["decision"], about["config"]["classes"])
    if expected := made.summary.get("expected"):
        beside = "".join(f" Beside it, {said}." for said in about["metrics"].get("beside", ()))
        yield (
            "Cross-validated scores, of heads like this one on what they did not learn from, were:"
            f" {expected}.{beside}"
        )


def _report(made: Artifact, near: Nearby) -> Iterator[str]:
    prints = dict(made.summary["classifiers"])
    scored = prints.pop("recordings")
    found = [near.find("classifier", fingerprint) for fingerprint in prints.values()]
    classifiers = [one for one in found if one is not None]
    if classifiers:
        yield from _classifiers(classifiers, near)
    if not classifiers or classifiers[0].inputs.get("recordings") != scored:
        recordings = near.find("recordings", scored)
        if recordings is not None:
            yield f"Scored: {sentences.recordings(recordings)}"
    yield from sentences.scores(artifacts.read_json(made / "report.json"), made.summary.get("rate"))


_OF_KIND: dict[str, Callable[[Artifact, Nearby], Iterator[str]]] = {
    "recordings": _recordings,
    "backbone": _backbone,
    "latents": _latents,
    "embeddings": _embeddings,
    "classifier": _classifier,
    "report": _report,
}
