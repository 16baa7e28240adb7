"""From `key=value` words to a checked configuration, by Hydra's compose API; every fault at once,
one line each.

Numbers, booleans and lists of numbers follow Hydra's grammar. Texts (paths, patterns, names) do
not: what is typed after `=` is the text, whatever it looks like (`1e5`, `{e}`, `a (b), c`); quotes
around the whole are taken off.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eegdm.config import (
    SHORT,
    Config,
    check,
    did_you_mean,
    leaves,
    range_text,
    with_settings,
)
from eegdm.errors import UserError

SEVERAL = "several values are run one after the other by -m, side by side by eegdm sweep"
CONF = Path(__file__).parent / "conf"
CONFIG_GROUPS = ("corpus", "recipe")
MAPPINGS = ("corpus.label_map",)
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

    # Those of the environment come first, so that what is typed wins
    typed = [_lengthen(word) for word in words]
    words = [*(_lengthen(word) for word in _default_words()), *typed]
    if faults := [fault for word in words for fault in _faults_of_word(word)]:
        raise UserError("\n".join(faults))
    ConfigStore.instance().store(name="eegdm_schema", node=Config)
    # Hydra would merge a mapping into the default, which a typed one replaces, and read a text as
    # if it were a number, a function or a reference: both are put in afterwards.
    kept = [word for word in words if _key(word) in (*MAPPINGS, *_texts())]
    try:
        with _no_other_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra_compose("config", overrides=[w for w in words if w not in kept])
        config = OmegaConf.to_object(composed)
        assert isinstance(config, Config)
        config = with_settings(config, {_key(word): _value(word) for word in kept})
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{_on_one_line(words)}: {_first_line(error)}") from error
    # The published treatment of CHB-MIT is a matter of preprocessing, where it is written down
    if config.run.compat == "published" and config.corpus.name == "chbmit":
        config.signal.per_window = True
    config.explicit = [key for word in typed if (key := _key(word)) not in CONFIG_GROUPS]
    return check(config)


@contextmanager
def _no_other_hydra() -> Iterator[None]:
    """Put aside the Hydra of a program that calls us, which could not begin a second one."""
    from hydra.core.global_hydra import GlobalHydra

    # Hydra is a singleton: a second initialisation fails while the first is in place
    other = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = other


def _default_words() -> list[str]:
    text = os.environ.get(DEFAULTS, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(
            f"{DEFAULTS}={text}: {str(error).lower()}; quote as in a shell, such as"
            f" {DEFAULTS}=\"root='/scratch/my runs' device=cuda\""
        ) from error


def _value(word: str) -> Any:
    """Return the value of a word: YAML for a mapping, whose keys may hold anything, the text itself
    for a text, else by Hydra's grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf.errors import ValidationError
    from yaml import YAMLError, safe_load

    key, _, value = word.partition("=")
    if kind := _texts().get(key):
        if kind == "list":
            return _text_list(value)
        return None if kind == "optional" and value == "null" else _unquoted(value)
    if key not in MAPPINGS:
        override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override():
            raise ValidationError(SEVERAL)
        return override.value()
    try:
        mapping = safe_load(value)
    except YAMLError as error:
        raise ValidationError(f"{value} is not YAML: {_first_line(error)}") from error
    # No nesting: YAML's aliases, one in the other, could grow without end
    if not isinstance(mapping, dict) or any(isinstance(v, dict | list) for v in mapping.values()):
        raise ValidationError("write it as '{text in the file: class, another: class}'")
    return {str(text): str(name) for text, name in mapping.items()}


@functools.cache
def _texts() -> dict[str, str]:
    """Each setting that is a text, and how: "text", "optional" (null is None), or "list"."""
    kinds = {"str": "text", "str | None": "optional", "list[str]": "list"}
    return {
        name: kinds[field.type]
        for name, field, _ in leaves(Config())
        if field.type in kinds and name not in CONFIG_GROUPS
    }


def _unquoted(text: str) -> str:
    """Take off the quotes around the whole text."""
    quoted = re.fullmatch(r"""(['"])((?:(?!\1)[^\\]|\\.)*)\1""", text, re.DOTALL)
    if quoted is None:
        return text
    quote, inner = quoted.groups()
    return inner.replace(f"\\{quote}", quote)


def _text_list(value: str) -> list[str]:
    """Return the texts of `[a, 'b, c']`, and of a single text without brackets."""
    from omegaconf.errors import ValidationError

    if not (value.startswith("[") and value.endswith("]")):
        # a classifier's own folder is called fold=1,seed=0
        parts = [value] if "=" in value else _split_at_commas(value)
    else:
        parts = _split_at_commas(value[1:-1])
    if any(_is_open(part) for part in parts):
        raise ValidationError(
            "a quote or bracket is not closed; write it as \"['one, two',three]\""
        )
    return [_unquoted(part.strip()) for part in parts if part.strip()]


def _split_at_commas(text: str) -> list[str]:
    """Split at the commas that lie outside quotes and brackets of any kind."""
    parts = [""]
    for character in text:
        if character == "," and not _is_open(parts[-1]):
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _is_open(text: str) -> bool:
    """Whether a quote that begins the text, or a bracket in it, is still open. An apostrophe in a
    word (`O'Brien`) is not a quote.
    """
    text = text.strip()
    if text[:1] in ("'", '"'):
        return re.match(r"""(['"])((?!\1)[^\\]|\\.)*\1""", text, re.DOTALL) is None
    return any(text.count(pair[0]) > text.count(pair[1]) for pair in ("()", "[]", "{}"))


def expand_sweep(words: list[str]) -> list[list[str]]:
    """Return the runs that a sweep such as `seed=0,1,2` names, each once, the last word's values
    changing fastest.
    """
    # A dict keeps the first of equal runs, and their order
    runs = itertools.product(*(_alternatives(word) for word in words))
    return [list(run) for run in dict.fromkeys(runs)]


# What Hydra's grammar has for many values at once
_SWEEP_FUNCTION = re.compile(r"(choice|range|shuffle|sort|tag|glob|interval)\(.*\)")


def _alternatives(word: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = (word := _lengthen(word)).partition("=")
    is_text = key in (*CONFIG_GROUPS, *MAPPINGS, *_texts())
    if is_text and not _SWEEP_FUNCTION.fullmatch(value):
        if _is_single_list(key, value):
            return [word]
        return [f"{key}={part.strip()}" for part in _split_at_commas(value)]
    try:
        override = OverridesParser.create().parse_override(word)
        if not override.is_sweep_override():
            return [word]
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    except HydraException as error:
        raise UserError(
            f"{_on_one_line([word])}: {_first_line(error)}; write several values as {key}=1,2, as"
            f" {key}=range(0,3), or a text with parentheses in quotes"
        ) from error


def _is_single_list(key: str, value: str) -> bool:
    """Whether commas divide the elements of one list, and not runs."""
    return _texts().get(key) == "list" and not value.startswith("[")


def choices(group: str) -> list[str]:
    """Names of the files in conf/<group>."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def _key(word: str) -> str:
    return word.partition("=")[0]


def _lengthen(word: str) -> str:
    """Write a short name in full: `seed=1` is `run.seed=1`."""
    key, equals, value = word.partition("=")
    return f"{SHORT[key]}={value}" if equals and key in SHORT else word


def _faults_of_word(word: str) -> Iterator[str]:
    """Name what is wrong with one word, as far as that is possible without the others."""
    key, equals, value = word.partition("=")
    known = {name: field for name, field, _ in leaves(Config())}
    if not equals:
        yield f"{_on_one_line([word])}: settings are written key=value"
    elif key in CONFIG_GROUPS:
        if value not in choices(key):
            yield (
                f"{key}={value}: there are"
                f" {', '.join(choices(key))}{did_you_mean(value, choices(key))}"
                f"{f'; {SEVERAL}' if ',' in value else ''}"
            )
    elif key in {name.partition(".")[0] for name in known if "." in name}:
        yield (
            f"{key}={value}: {key} is a section; its settings are"
            f" {', '.join(n for n in known if n.startswith(f'{key}.'))}"
        )
    elif key not in known:
        yield f"{key}: no such setting{did_you_mean(key, [*known, *SHORT, *CONFIG_GROUPS])}"
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
        value = _value(word)
        if key not in _texts():
            OmegaConf.update(_types(), key, value, merge=False, force_add=key in MAPPINGS)
    except (HydraException, OmegaConfBaseException) as error:
        yield f"{_on_one_line([word])}: {_first_line(error)}"


def _on_one_line(words: list[str]) -> str:
    """Words as a message shows them: on one line."""
    return " ".join(" ".join(words).split())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def as_yaml(config: Config) -> str:
    """Return the configuration as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def explained_settings(sections: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, str]]]:
    """Yield name, default and texts (what it is, with its limits; when to change it) of each
    setting in the sections, for --settings.
    """
    for name, field, value in leaves(Config()):
        if name.partition(".")[0] in sections:
            about = field.metadata
            limits = " | ".join(about["choices"])
            if about["low"] is not None:
                limits = range_text(about["low"], about["high"])
            limits = f"{limits} {about['unit']}".strip()
            what = f"{about['help']} [{limits}]" if limits else about["help"]
            yield name, value, (what, about["advice"])
