"""The README.md beside a model: its kind, the data and recipe it was trained with, its scores, its
licence and its limits.
"""

from __future__ import annotations

import json
from typing import Any

from eegdm import __version__

PURPOSES = {
    "SSMDP": (
        "This model is a diffusion backbone: it denoises single EEG channels, and its activities"
        " serve as representations."
    ),
    "SSMDP, student": (
        "This model is a small backbone: it has learned the tokens of a larger one, its teacher."
        " Its activities serve as representations; it cannot denoise or generate EEG."
    ),
    "LatentFusionTransformer": (
        "This model classifies the tokens that a diffusion backbone computes from EEG windows; it"
        " needs that backbone."
    ),
    "EEGDM": (
        "This model classifies EEG windows; it combines a frozen diffusion backbone and a latent"
        " fusion transformer."
    ),
    "EEGDM, linear": (
        "This model classifies EEG windows; it combines a frozen diffusion backbone and a linear"
        " head that was fitted to a few labels."
    ),
}
_CARD_SECTIONS = ("data", "people", "recipe", "metrics", "licence", "license")
_LIMITS = """\
This model is for research and is not a medical device: it must not be used for the diagnosis,
treatment or monitoring of patients. It has learned from the channels and the preprocessing listed
below only; on other populations, electrodes, amplifiers or filters, its output may be wrong without
any warning. Scores on one corpus do not carry over to another: evaluate on your own data first."""

PLACE = "PATH_OR_HUB_ID"
"""Stands in a card for where the model lies, until it lies on a hub."""
_CARD = """\
---
library_name: eegdm
license: {license}
tags: [eeg, diffusion, state-space-model, representation-learning]
pipeline_tag: {task}
---

# {name}

{purpose}
The method is EEGDM, [arXiv 2508.14086](https://arxiv.org/abs/2508.14086).

```python
import eegdm

model = eegdm.load("{place}")
```

## Data

{data}

## Recipe

{recipe}

## Metrics

{metrics}

## Licence

{licence}

## Limits

{limits}

## Settings

This card was written by eegdm {version}; the weights are stored in float32. Settings in addition to
the model's own, which follow below:

{facts}

```json
{config}
```
"""


def training_facts(
    corpus: str,
    recipe: str,
    seed: int,
    trained_on: dict[str, Any],
    metrics: dict[str, float | None],
) -> dict[str, Any]:
    """Return the facts about a model that a stage trained: its data, recipe, scores on the
    validation part, and licence.

    Args:
        corpus: its name.
        recipe: its name.
        seed: of the training.
        trained_on: summary of the recordings folder.
        metrics: scores on the validation part, as fractions; None where one is undefined.
    """
    shown = ("recordings", "subjects", "hours", "events")
    counts = {name: trained_on[name] for name in shown if name in trained_on}
    return {
        "data": {"corpus": corpus, **counts},
        "recipe": {"name": recipe, "seed": seed},
        "metrics": {
            f"validation {name.replace('_', ' ')}": None if score is None else round(score, 4)
            for name, score in metrics.items()
        },
        "licence": (
            "The licence of the recordings used for training decides whether these weights may be"
            " redistributed."
        ),
    }


def model_card(model: Any, info: dict[str, Any]) -> str:
    """Return a model card in Markdown with the front matter of the Hugging Face hub.

    Args:
        model: its class and `config` are shown.
        info: `data`, `recipe`, `metrics` and `licence` fill the sections of these names, each a
            text or a table of JSON values; `people` is counted; `license` is the hub's short name
            of the licence.
    """
    name = type(model).__name__
    kind = ""
    if model.config.get("fusion", {}).get("kind") == "linear":
        kind = ", linear"
    elif name == "SSMDP" and "teacher" in info:
        kind = ", student"
    return _CARD.format(
        name=name,
        place=PLACE,
        purpose=PURPOSES[name + kind],
        license=json.dumps(info.get("license", "unknown")),
        task="feature-extraction" if name == "SSMDP" else "other",
        data=_data(info),
        recipe=_section(info.get("recipe"), "Not stated."),
        facts=_section(
            {key: value for key, value in info.items() if key not in _CARD_SECTIONS}, "None."
        ),
        metrics=_section(
            info.get("metrics"), "Not measured; `eegdm report` computes scores on a test set."
        ),
        licence=_section(
            info.get("licence"), "Not stated: ask its authors before redistributing it."
        ),
        limits=_LIMITS,
        version=__version__,
        config=json.dumps(model.config, indent=1),
    )


def _data(info: dict[str, Any]) -> str:
    text, people = _section(info.get("data"), "Not stated."), info.get("people")
    if not people:
        return text
    return (
        f"{text}\n\nPeople whose recordings it learned from: {len(people)}, listed in `config.json`"
        " by the first 12 digits of the SHA-256 of their names."
    )


def _section(content: Any, absent: str) -> str:
    """Return a section's text: a text as it is, a table as a list."""
    if not content:
        return absent
    if not isinstance(content, dict):
        return str(content)
    return "\n".join(
        f"- {key}: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in content.items()
    )
