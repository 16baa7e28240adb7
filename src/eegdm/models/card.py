"""The README.md beside a model: what it is, from which data and recipe, how good, under which
licence, and what it is not for.
"""

from __future__ import annotations

import json
from typing import Any

from eegdm import __version__

PURPOSES = {
    "SSMDP": (
        "A diffusion backbone: it denoises single EEG channels, and its activities serve as"
        " representations."
    ),
    "LatentFusionTransformer": (
        "A classifier of tokens that a diffusion backbone makes of EEG windows; it needs that"
        " backbone."
    ),
    "EEGDM": (
        "A classifier of EEG windows: a frozen diffusion backbone and a latent fusion transformer,"
        " in one."
    ),
}
_SECTIONS = ("data", "recipe", "metrics", "licence", "license")
_LIMITS = """\
For research, not a medical device: it must not be used for diagnosis, treatment or monitoring of patients. It knows the
channels and the preprocessing below and nothing else; on other populations, electrodes, amplifiers or filters its answers may be wrong
without any sign of it. Scores of one corpus do not carry over to another: measure on your own data first."""  # noqa: E501

_CARD = """\
---
library_name: eegdm
license: {license}
tags: [eeg, diffusion, state-space-model, representation-learning]
pipeline_tag: {task}
---

# {name}

{purpose} Method: EEGDM, [arXiv 2508.14086](https://arxiv.org/abs/2508.14086).

```python
import eegdm

model = eegdm.load("PATH_OR_HUB_ID")
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

Written by eegdm {version}; numbers in float32. Beside the model's own settings, below:

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
    """Return what a card says of a model that a stage trained: its data, recipe, scores on the
    validation part, and licence.
    """
    return {
        "data": {
            "corpus": corpus,
            **{
                k: trained_on[k]
                for k in ("recordings", "subjects", "hours", "events")
                if k in trained_on
            },
        },
        "recipe": {"name": recipe, "seed": seed},
        "metrics": {
            f"validation {k.replace('_', ' ')}": None if v is None else round(v, 4)
            for k, v in metrics.items()
        },
        "licence": (
            "That of the recordings it was trained on decides whether these weights may be"
            " passed on."
        ),
    }


def model_card(model: Any, info: dict[str, Any]) -> str:
    """Return a model card in Markdown with the front matter of the Hugging Face hub.

    Args:
        model: its class and `config` are shown.
        info: `data`, `recipe`, `metrics` and `licence` fill the sections of these names, each a
            text or a table of JSON values; `license` is the hub's short name of the licence.
    """
    name = type(model).__name__
    return _CARD.format(
        name=name,
        purpose=PURPOSES[name],
        license=json.dumps(info.get("license", "unknown")),
        task="feature-extraction" if name == "SSMDP" else "other",
        data=_section(info.get("data"), "Not stated."),
        recipe=_section(info.get("recipe"), "Not stated."),
        facts=_section(
            {key: value for key, value in info.items() if key not in _SECTIONS}, "None."
        ),
        metrics=_section(
            info.get("metrics"), "Not measured. `eegdm report` measures on a test set."
        ),
        licence=_section(
            info.get("licence"), "Not stated: ask who trained it before you pass it on."
        ),
        limits=_LIMITS,
        version=__version__,
        config=json.dumps(model.config, indent=1),
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
