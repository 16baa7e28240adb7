"""From `key=value` words to a checked configuration, by Hydra's compose API; every fault at once,
one line each.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eegdm.config import SHORT, Config, check, did_you_mean, leaves
from eegdm.errors import UserError

CONF = Path(__file__).parent / "conf"
GROUPS = ("corpus", "recipe")
MAPPINGS = ("corpus.label_map",)
TEXTS = ("corpus.source", "corpus.table", "corpus.pattern", "run.root")
"""Settings that are text, whatever they look like: `source=1e5` and `source=null` are folders."""
PATHS_OR_NULL = ("run.recordings", "run.backbone", "run.latents")
"""Text too, except `null`, which is none, and what a sweep divides at its commas."""
DEFAULTS = "EEGDM_DEFAULTS"
"""Environment variable with words that every command takes before those typed, such as
`root=/scratch/runs device=cuda`.
"""


def compose(words: list[str]) -> Config:
    """Return the configuration that the words make of the defaults.

    Args:
        words: `corpus=NAME`, `recipe=NAME`, and `section.key=value` or one of the short names in
            :data:`eegdm.config.SHORT`.

    Raises:
        UserError: one line per unknown name, wrong type, value out of range or contradiction.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    typed = [_lengthen(word) for word in words]
    words = [*(_lengthen(word) for word in shlex.split(os.environ.get(DEFAULTS, ""))), *typed]
    if faults := [fault for word in words for fault in _faults_of_word(word)]:
        raise UserError("\n".join(faults))
    ConfigStore.instance().store(name="schema", node=Config)
    whole = [
        word for word in words if _key(word) in MAPPINGS
    ]  # Hydra would merge a mapping into the default; a typed one replaces it
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra_compose(
                "config", overrides=[word for word in words if word not in whole]
            )
        for word in whole:
            OmegaConf.update(composed, _key(word), _value(word), merge=False, force_add=True)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{' '.join(words)}: {_first_line(error)}") from error
    assert isinstance(config, Config)
    if config.run.compat == "published" and config.corpus.name == "chbmit":
        config.signal.per_window = True
    config.explicit = [key for word in typed if (key := _key(word)) not in GROUPS]
    return check(config)


def _value(word: str) -> Any:
    """Return the value of a word: YAML for a mapping, whose keys may hold anything, else by Hydra's
    grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf.errors import ValidationError
    from yaml import YAMLError, safe_load

    key, _, value = word.partition("=")
    if key not in MAPPINGS:
        return OverridesParser.create().parse_override(word).value()
    try:
        found = safe_load(value)
    except YAMLError as error:
        raise ValidationError(f"{value} is not YAML: {_first_line(error)}") from error
    if not isinstance(found, dict) or any(
        isinstance(v, dict | list) for v in found.values()
    ):  # nested aliases could grow without end
        raise ValidationError("write it as '{text in the file: class, another: class}'")
    return {str(k): str(v) for k, v in found.items()}


def expand(words: list[str]) -> list[list[str]]:
    """Return the runs that a sweep such as `seed=0,1,2` names."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides([_lengthen(word) for word in words])
    except HydraException as error:
        raise UserError(f"{' '.join(words)}: {_first_line(error)}") from error
    (runs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return runs


def choices(group: str) -> list[str]:
    """Names of the files in conf/<group>."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def _key(word: str) -> str:
    return word.partition("=")[0]


def _lengthen(word: str) -> str:
    """Write a short name in full: `seed=1` is `run.seed=1`, and `classifiers=PATH` a list of
    one.
    """
    key, equals, value = word.partition("=")
    name = SHORT.get(key, key)
    is_path = name in PATHS_OR_NULL and value != "null" and "," not in value
    if equals and (name in TEXTS or is_path):
        return f"{name}={_as_text(value)}"
    if not equals or key not in SHORT:
        return word
    wants_list = any(
        isinstance(default, list) for name, _, default in leaves(Config()) if name == SHORT[key]
    )
    value = _quoted(value)
    return (
        f"{SHORT[key]}=[{value}]"
        if wants_list and not value.startswith("[")
        else f"{SHORT[key]}={value}"
    )


def _quoted(value: str) -> str:
    """Quote a path that Hydra's grammar would trip over, such as one with spaces, `=` or
    parentheses.
    """
    special = any(c in value for c in " =()'\"\\~#") and not value.startswith(("[", "{", "'", '"'))
    return _in_quotes(value) if special else value


def _as_text(value: str) -> str:
    """Quote a value so that it stays the text that was typed; one in quotes is text already."""
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value if is_quoted else _in_quotes(value.replace("${", "\\${"))


def _in_quotes(value: str) -> str:
    """Quote a value for Hydra, where a backslash is one, except before a quote."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def _faults_of_word(word: str) -> Iterator[str]:
    """Name what is wrong with one word, as far as it can be told without the others."""
    key, equals, value = word.partition("=")
    known = {name: field for name, field, _ in leaves(Config())}
    if not equals:
        yield f"{word}: settings are written key=value"
    elif key in GROUPS:
        if value not in choices(key):
            yield (
                f"{key}={value}: there are"
                f" {', '.join(choices(key))}{did_you_mean(value, choices(key))}"
            )
    elif key in {name.partition(".")[0] for name in known if "." in name}:
        yield (
            f"{key}={value}: {key} is a section; its settings are"
            f" {', '.join(n for n in known if n.startswith(f'{key}.'))}"
        )
    elif key not in known:
        yield f"{key}: no such setting{did_you_mean(key, [*known, *SHORT, *GROUPS])}"
    else:
        yield from _type_fault(key, word)


@functools.cache
def _types() -> Any:
    """A configuration to try values on; building one takes longer than composing a run."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(Config())


def _type_fault(key: str, word: str) -> Iterator[str]:
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.update(_types(), key, _value(word), merge=False, force_add=key in MAPPINGS)
    except (HydraException, OmegaConfBaseException) as error:
        yield f"{word}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def as_yaml(config: Config) -> str:
    """Return the configuration as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def describe(sections: tuple[str, ...]) -> list[tuple[str, Any, str]]:
    """Return (name, default, text) of each setting in the sections, for --settings."""
    rows = []
    for name, field, value in leaves(Config()):
        if name.partition(".")[0] in sections:
            limits = field.metadata
            details = [limits["unit"], " | ".join(limits["choices"])]
            rows.append((name, value, limits["help"] + "".join(f" [{d}]" for d in details if d)))
    return rows
