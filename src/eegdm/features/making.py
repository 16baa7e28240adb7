"""Make a folder of features: every recording below a folder, one after the other or side by side;
what is finished is not done again, one failure is one line.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from eegdm import artifacts
from eegdm.config import CorpusConfig
from eegdm.console import as_options, say, track
from eegdm.data.corpora import Source, Survey, describe_people, survey, table_path
from eegdm.errors import UserError
from eegdm.executor import map_unordered
from eegdm.features.extractors import TOKENS, Description, Extractor, Tokens
from eegdm.features.labels import has_label
from eegdm.features.recording import (
    PARTS,
    WORK,
    Cut,
    Job,
    give_up,
    is_changed,
    process,
    read_part,
)
from eegdm.features.store import (
    ABOUT,
    ARRAYS,
    STORE_KIND,
    WINDOWS,
    FeatureStore,
    array_path,
    read_descriptions,
)
from eegdm.features.tables import write_store_tables
from eegdm.inference.embedding import BackboneReader, EmbedOptions

if TYPE_CHECKING:
    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

ORIGIN = "origin.json"
"""Where the recordings and the model are, for a command that adds features; not sealed."""
LABELS_TABLE = "labels"
"""Name, without its suffix, of the folder's own copy of the table of labels."""
EMBEDDINGS = Path("runs") / "embeddings"
_NAMING = ("channels", "missing", "notch", "step_s", "unit")
"""Options that make other features of the same recordings by the same model."""
STORE_OPTIONS = tuple(name.removesuffix("_s") for name in EmbedOptions.__dataclass_fields__)
"""The options of `eegdm embed` that a message may name."""


def embed_folder(
    source: str | Path,
    model: SSMDP | EEGDM | str | Path = "mini",
    out: str | Path | None = None,
    *,
    table: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    strict: bool = False,
    extractors: Sequence[Extractor] = (),
    of_labelled: Sequence[Extractor] = (),
    with_tokens: bool = True,
    **options: Any,
) -> FeatureStore:
    """Embed all recordings below a folder; return the features, open for reading.

    The same call resumes after an interruption: recordings that are finished are not read again.
    What is in the folder already stays, so that other features of the same windows can be added.

    Args:
        source: a folder with recordings at any depth.
        model: a backbone or a classifier, or its folder, checkpoint or hub id.
        out: the folder to write; by default `runs/embeddings/<name of source>-<name of model>`.
        table: labels of recordings or of stretches of them (CSV, TSV or Parquet with the columns
            file, onset_s, duration_s and label, or file and label), from which each window gets
            its label. Without it, the labels that the folder has stay.
        workers: processes that share the recordings.
        cluster: address of a dask scheduler whose workers do it instead.
        strict: raise an error at the end if any recording failed.
        extractors: features to make beside the model's tokens.
        of_labelled: features to make of recordings that have a label, and of no others.
        with_tokens: whether the model's tokens are among the features; without them the model only
            decides how recordings are prepared and cut into windows, and nothing else.
        options: those of :class:`eegdm.inference.EmbedOptions`, except tokens.

    Raises:
        UserError: no recording could be used, or with ``strict`` one could not; the folder holds
            features by another model, of other recordings or of another treatment; the table does
            not fit the recordings.
    """
    source, model, chosen = Path(source), _portable(model), EmbedOptions(**options)
    if out is not None and Path(out).suffix in (".npz", ".parquet"):
        raise UserError(
            f"out={out}: the features of a folder are a folder; name one with no suffix"
        )
    identity, cut = _store_settings(model, chosen)
    folder = Path(out) if out is not None else EMBEDDINGS / default_name(source, model)
    every = (*([Tokens(model, chosen.device)] if with_tokens else []), *extractors)
    with artifacts.storage_faults(folder, "--out"):
        corpus = CorpusConfig(name="folder", source=str(source), events="none")
        found = survey(corpus)
        inputs = _accept_files(folder, identity, found, source)
        if labels := table or _kept_table(folder):
            corpus = replace(corpus, events="table", table=str(labels))
            found = survey(corpus)  # the table may say whose the recordings are
        say(f"embed: {len(found.sources)} recordings in {source} -> {folder}")
        for line in describe_people(found):
            say(f"embed: {line}")
        with artifacts.building(folder, STORE_KIND, identity, inputs):
            artifacts.write_json(folder / ORIGIN, _origin(source, model, chosen))
            is_relabelled = _keep_table(folder, corpus)
            work = _Work(folder, source, found, corpus, cut, every, tuple(of_labelled))
            n_read = _make(work, is_relabelled, workers, cluster)
    store = FeatureStore.open(folder)
    _say_result(store, n_read)
    n_failed = int((store.recordings.status != "ok").sum())
    if strict and n_failed:
        raise UserError(
            f"{source}: {n_failed} of {len(store.recordings)} recordings failed, the reasons are"
            " above; mend them and run the command again"
        )
    return store


def _say_result(store: FeatureStore, n_read: int) -> None:
    recordings, summary = store.recordings, store.artifact.summary
    for r in recordings[recordings.status != "ok"].itertuples():
        say(f"  failed   {as_options(f'{r.file}: {r.reason}', STORE_OPTIONS)}")
    # Said when recordings are read, not again by each command that finds them stored
    notes = recordings[["file", "notes"]].head(len(recordings) if n_read else 0)
    notes = notes.explode("notes").dropna()
    for note, rows in notes.groupby("notes", sort=False):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        say(f"  noted    {rows.file.iloc[0]}{more}: {note}")
    labels = ", ".join(f"{label} {n}" for label, n in summary.get("labels", {}).items())
    n = summary["subjects"]
    said = f" ({labels or 'none of them has a label'})" if "labels" in summary else ""
    say(
        f"embed: {summary['recordings']} recordings of {n} {'person' if n == 1 else 'people'},"
        f" {summary['hours']:.2f} h, {summary['windows']} windows{said}; {summary['failed']} failed"
    )


def open_store(
    source: str | Path,
    extractors: Sequence[Extractor] = (),
    of_labelled: Sequence[Extractor] = (),
    with_tokens: bool = True,
    **settings: Any,
) -> FeatureStore:
    """Return the features of ``source``, made where they are missing.

    Args:
        source: a folder of recordings, or a folder that :func:`embed_folder` wrote.
        extractors: features that are needed beside the model's tokens.
        of_labelled: features that are needed of recordings that have a label.
        with_tokens: whether the model's tokens are needed.
        settings: those of :func:`embed_folder`. For a folder that it wrote, model, out and options
            are that folder's, and only table, workers, cluster, strict and device are taken.

    Raises:
        UserError: as :func:`embed_folder`; features are to be added, and the recordings or the
            model are not where they were.
    """
    source = Path(source)
    settings = {name: value for name, value in settings.items() if value is not None}
    wanted: dict[str, Any] = {
        "extractors": extractors,
        "of_labelled": of_labelled,
        "with_tokens": with_tokens,
    }
    if not is_store(source):
        return embed_folder(source, **wanted, **settings)
    of_folder = {"model", "out", *EmbedOptions.__dataclass_fields__} - {"device", "batch_size"}
    if fixed := sorted(of_folder & settings.keys()):
        raise UserError(
            f"{source}: holds features already, {fixed[0]}= is that of the folder; to choose"
            " another, name the folder of recordings instead"
        )
    store = FeatureStore.open(source) if artifacts.is_finished(source) else None
    if store is not None and "table" not in settings:
        labelled = store.labelled_names
        if (not with_tokens or _has(store, TOKENS, store.names)) and all(
            _is_whole(store, extractor, names)
            for several, names in ((extractors, store.names), (of_labelled, labelled))
            for extractor in several
        ):
            return store
    origin = origin_of(source)
    if origin.model is None or not origin.source.is_dir():
        what = "the model" if origin.model is None else f"the folder {origin.source}"
        raise UserError(
            f"{source}: features are to be added, and {what} that it was made from is not there;"
            " run `eegdm embed` on the folder of recordings with --out for this one"
        )
    if store is not None:
        tokens_of(store, origin.model)
    options = {**asdict(origin.options), **settings}
    return embed_folder(origin.source, origin.model, source, **wanted, **options)


class Origin(NamedTuple):
    """What the features in a folder were made from."""

    source: Path
    """The folder of recordings, when they were made."""
    model: str | None
    """None: one that had no name."""
    options: EmbedOptions


def origin_of(folder: Path) -> Origin:
    """Return what the features in a folder were made from."""
    origin = artifacts.read_json(folder / ORIGIN)
    options = dict(origin["options"])
    if isinstance(options["notch"], list):
        options["notch"] = tuple(options["notch"])
    return Origin(Path(origin["source"]), origin["model"], EmbedOptions(**options))


def tokens_of(store: FeatureStore, model: Any) -> Tokens:
    """Return what makes the tokens in a folder, from the model that made it.

    Raises:
        UserError: the model is another one, or has changed.
    """
    tokens = Tokens(model)
    if store.artifact.config["model"] != _model_identity(tokens.reader):
        raise UserError(
            f"{store.path}: its features are not those of model={model}, which has changed since;"
            " remove the folder, or give the model that it was made with"
        )
    return tokens


def is_store(path: Path) -> bool:
    """Whether :func:`embed_folder` wrote this folder."""
    plan = path / artifacts.PLAN
    return plan.is_file() and artifacts.read_json(plan).get("kind") == STORE_KIND


def model_of(source: Path) -> str:
    """Return the model that made the features in a folder, or the package's for recordings.

    Raises:
        UserError: the model had no name.
    """
    if not is_store(source):
        return "mini"
    found = origin_of(source).model
    if found is None:
        raise UserError(
            f"{source}: was made by a model without a name; give that model with model= and the"
            " folder of recordings"
        )
    return found


def _is_whole(store: FeatureStore, extractor: Extractor, names: Iterable[str]) -> bool:
    """Whether a folder has the features of these recordings, made in this way."""
    if not _has(store, extractor.name, names):
        return False
    _refuse_other_features(store.path, {extractor.name: extractor.describe()})
    return True


def _has(store: FeatureStore, features: str, names: Iterable[str]) -> bool:
    """Whether a folder has features of that name of these recordings."""
    return all(array_path(store.path, features, name).is_file() for name in names)


# -------------------------------------------------------------------------------------- settings


def _store_settings(model: Any, options: EmbedOptions) -> tuple[dict[str, Any], Cut]:
    """What identifies the features beside the recordings, and how those are cut."""
    if options.tokens:
        raise UserError(
            "tokens: all axes are kept of a single recording only; the features of a folder are"
            " averaged over the pools of each window"
        )
    reader = Tokens(model).reader
    settings = reader.preparation(options)
    step_s = options.step_s or reader.window_s
    identity = {
        "model": _model_identity(reader),
        "window_s": reader.window_s,
        "step_s": step_s,
        "channels": options.channels,
        "missing": options.missing,
        "rate": options.rate,
        "unit": options.unit,
        "notch": list(options.notch) if isinstance(options.notch, tuple) else options.notch,
    }
    return identity, Cut(settings, reader.window_s, step_s, options.batch_size)


def _model_identity(reader: BackboneReader) -> dict[str, str]:
    about = reader.identity()
    return {"weights": about["weights"], "settings": artifacts.fingerprint(about)}


def default_name(source: Path, model: Any) -> str:
    """Return what a folder made of a source and a model is called where the user does not say."""
    return f"{source.resolve().name or 'recordings'}-{model_name(model)}"


def store_folder(source: Path, model: Any, options: Mapping[str, Any]) -> Path:
    """Return where the features of recordings lie that commands share: named by source, model, and
    the options that make other features.
    """
    parts = [default_name(source, model)]
    for option in _NAMING:
        value = options.get(option)
        if value not in (None, "montage", "error"):
            several = value if isinstance(value, tuple) else (value,)
            words = "-".join(f"{x:g}" if isinstance(x, float) else str(x) for x in several)
            parts.append(f"{option.removesuffix('_s')}-{words}")
    return EMBEDDINGS / "-".join(parts)


def model_name(model: Any) -> str:
    """Return the last part of a model's path or hub id; of one in memory its class and the first
    digits of what identifies its weights.
    """
    if isinstance(model, str | Path):
        # A colon stands before the file of a hub id, and Windows has no folder with one in its name
        return Path(model).resolve().name.removesuffix(".ckpt").replace(":", "-")
    return f"{type(model).__name__.lower()}-{BackboneReader.of(model).identity()['weights'][:8]}"


def _portable(model: Any) -> Any:
    """A model as another process finds it, which may work in another folder."""
    is_on_disk = isinstance(model, str | Path) and Path(model).exists()
    return str(Path(model).resolve()) if is_on_disk else model


def _origin(source: Path, model: Any, options: EmbedOptions) -> dict[str, Any]:
    return {
        "source": str(source.resolve()),
        "model": str(model) if isinstance(model, str | Path) else None,
        "options": asdict(options),
    }


def _kept_table(folder: Path) -> Path | None:
    """The folder's own copy of the table of an earlier run."""
    return next(iter(sorted(folder.glob(f"{LABELS_TABLE}.*"))), None)


def _keep_table(folder: Path, corpus: CorpusConfig) -> bool:
    """Copy the table of labels into the folder; return whether it is another than that of the
    run before.
    """
    if corpus.table is None:
        return False
    table, before = table_path(corpus), _kept_table(folder)
    if before is not None and artifacts.sha256(before) == artifacts.sha256(table):
        return False
    artifacts.reopen(folder)
    kept = folder / f"{LABELS_TABLE}{table.suffix.lower()}"
    with artifacts.atomic_path(kept) as temporary:
        shutil.copyfile(table, temporary)
    if before is not None and before != kept:
        before.unlink()
    return True


# ------------------------------------------------------------------------------- all recordings


class _Work(NamedTuple):
    """What a folder is to hold."""

    folder: Path
    root: Path
    found: Survey
    corpus: CorpusConfig
    cut: Cut
    extractors: tuple[Extractor, ...]
    of_labelled: tuple[Extractor, ...]

    def wanted(self, source: Source) -> tuple[Extractor, ...]:
        """The features of a recording."""
        is_labelled = self.of_labelled and has_label(source, self.corpus)
        return self.extractors + (self.of_labelled if is_labelled else ())


def _make(work: _Work, is_relabelled: bool, workers: int, cluster: str | None) -> int:
    """Do what is left to do in a folder that is held; return how many recordings that read."""
    folder, cut = work.folder, work.cut
    every = work.extractors + work.of_labelled
    described = {extractor.name: extractor.describe() for extractor in every}
    _refuse_other_features(folder, described)
    run = artifacts.run_of(folder)
    jobs = [Job(source, work.root, folder, run) for source in work.found.sources]
    jobs = [job._replace(lacking=_lacking(job, work.wanted(job.source))) for job in jobs]
    todo = [job for job in jobs if job.lacking]
    if artifacts.is_finished(folder) and not todo and not is_relabelled:
        return 0
    artifacts.reopen(folder)
    shutil.rmtree(folder / WORK, ignore_errors=True)  # signals of a run that was killed
    for name, description in described.items():
        artifacts.write_json(folder / ARRAYS / name / ABOUT, asdict(description))
    _sweep(folder, jobs, todo)
    make_one = functools.partial(process, cut=cut, extractors=every)
    with closing(map_unordered(make_one, todo, workers, cluster)) as results:
        for job, result in track(results, "embed", len(todo)):
            if isinstance(result, BaseException):
                give_up(job, result)
    recordings = write_store_tables(folder, jobs, work.corpus, cut)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    artifacts.finish(folder, _store_summary(folder, work.found, recordings), (PARTS, WORK, ORIGIN))
    return len(todo)


def _refuse_other_features(folder: Path, described: dict[str, Description]) -> None:
    """Refuse features of the same name that were made in another way."""
    before = read_descriptions(folder)
    for name, now in described.items():
        if name in before and before[name].fingerprint != now.fingerprint:
            raise UserError(
                f"{folder}: holds other features by the name {name!r}"
                f" ({before[name].fingerprint}, these are {now.fingerprint}); remove"
                f" {folder / ARRAYS / name}, or choose another --out"
            )


def _lacking(job: Job, wanted: Iterable[Extractor]) -> tuple[str, ...]:
    """The features that are to be made of a recording."""
    names, part = tuple(extractor.name for extractor in wanted), read_part(job)
    if part is None or is_changed(job, part):
        return names
    if part["row"]["status"] != "ok":
        return ()
    recording = job.source.recording
    return tuple(name for name in names if not array_path(job.folder, name, recording).is_file())


def _sweep(folder: Path, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
    """Remove what belongs to recordings that are not there any more, or are to be read again."""
    for job in todo:
        part = read_part(job)
        if part is not None and (part["row"]["status"] != "ok" or is_changed(job, part)):
            job.part.unlink()
    kept = {job.part.stem for job in jobs if job.part.is_file()}
    for file in [*folder.glob(f"{PARTS}/*.json"), *folder.glob(f"{ARRAYS}/*/*.npy")]:
        if file.stem not in kept:
            file.unlink()


def _accept_files(
    folder: Path, identity: dict[str, Any], found: Survey, root: Path
) -> dict[str, str]:
    """Return what tells these recordings from others: relative path and size of each.

    A finished folder takes no other recordings, except in the place of those that could not be
    used; an unfinished one takes those that are there now, if it was begun with one of them.

    Raises:
        UserError: recordings are new, gone or changed since the folder was finished, or the folder
            was begun with others.
    """
    every = [Job(source, root, folder, run="") for source in found.sources]
    jobs = {job.file: job for job in every}
    sizes = {file: job.source.file.stat().st_size for file, job in jobs.items()}
    inputs = {"files": artifacts.fingerprint(sorted(sizes.items()))}
    plan = folder / artifacts.PLAN
    begun = artifacts.read_json(plan) if plan.is_file() else {}
    if begun.get("kind") != STORE_KIND or artifacts.differences(begun["config"], identity):
        return inputs  # `building` refuses it
    parts = [artifacts.read_json(path) for path in artifacts.whole_files(folder / PARTS, "*.json")]
    known = {part["row"]["file"]: part for part in parts}
    if artifacts.is_finished(folder):
        changed = [
            file
            for file in known.keys() & jobs.keys()
            if known[file]["row"]["status"] == "ok" and is_changed(jobs[file], known[file])
        ]
        kinds = {
            "new": jobs.keys() - known.keys(),
            "gone": known.keys() - jobs.keys(),
            "changed": changed,
        }
        said = [f"{len(names)} {kind} ({min(names)})" for kind, names in kinds.items() if names]
        if said:
            raise UserError(
                f"{folder}: is finished, and was made of other recordings than {root} holds:"
                f" {', '.join(said)}; choose another --out, or remove the folder"
            )
    elif known and not any(known[file]["row"]["size"] == sizes.get(file) for file in known):
        raise UserError(
            f"{folder}: was begun with other recordings, such as {min(known)}, than {root} holds;"
            " choose another --out, or remove the folder"
        )
    if begun["inputs"] != inputs:
        artifacts.write_json(plan, {**begun, "inputs": inputs})
    return inputs


def _store_summary(folder: Path, found: Survey, recordings: pd.DataFrame) -> dict[str, Any]:
    usable = recordings[recordings.status == "ok"]
    windows = artifacts.read_table(folder / WINDOWS)
    summary = {
        "recordings": len(usable),
        "failed": len(recordings) - len(usable),
        "subjects": int(usable.subject.nunique()),
        "subjects_from": found.subjects_from,
        "subject_warnings": found.subject_warnings,
        "hours": round(float(usable.duration_s.sum()) / 3600, 4),
        "windows": len(windows),
        "features": ", ".join(read_descriptions(folder)),
    }
    if "label" in windows:
        counts = windows.label.value_counts().sort_index()
        summary["labels"] = {str(label): int(n) for label, n in counts.items()}
    return summary
