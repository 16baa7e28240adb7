"""distill: a student learns its teacher's tokens, and is a backbone like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import eegdm
from eegdm import artifacts
from eegdm.config import PretrainConfig
from eegdm.data.batches import ChannelBatch
from eegdm.distillation import LEAST, Student, TokenModule, logs_of
from eegdm.errors import UserError
from eegdm.inference.generation import generate
from eegdm.models.backbone import SSMDP
from eegdm.models.latents import TokenSpec
from eegdm.report.methods import describe_methods
from eegdm.stages import run_stage
from stages.tiny import Finished

SMALL = {"d_state": 4, "d_cond": 8, "d_embed": 8}


def words_of(run: Finished, root: Path, *more: object, model: str = "backbone") -> list[str]:
    """The words of a student's stages, which read the finished run's recordings."""
    inputs = [f"recordings={run.recordings}", f"model={getattr(run, model)}"]
    rest = [w for w in run.words if not w.startswith("root=")]
    return [*rest, "recipe=lite", f"root={root}", *inputs, "backbone.n_blocks=1", *map(str, more)]


def without_teacher(words: list[str]) -> list[str]:
    return [w for w in words if not w.startswith("model=")]


# ------------------------------------------------------------------------------------ the training


def rows(seed: int, n: int) -> ChannelBatch:
    random = np.random.default_rng(seed)
    signal = torch.from_numpy(random.standard_normal((n, 1, 400), dtype=np.float32))
    return ChannelBatch(signal, torch.from_numpy(random.integers(22, size=n)))


def alone(backbone: SSMDP, batch: ChannelBatch) -> Tensor:
    """The logs of tokens of each row as a recording of one channel: (row, block, pool, feature)."""
    found = [
        backbone.tokens(x[None], [int(channel)])[0, :, :, 0, 0]
        for x, channel in zip(batch.signal, batch.channel, strict=True)
    ]
    return (torch.stack(found) + LEAST).log()


@torch.no_grad()
def test_the_loss_is_the_squared_error_of_standardised_logs() -> None:
    """Against a plain computation: each block of the student answers for its share."""
    torch.manual_seed(0)
    teacher = SSMDP(d_model=6, n_blocks=5, **SMALL)
    spec = TokenSpec(last_block=4)
    student = Student(SSMDP(d_model=4, n_blocks=3, **SMALL), TokenSpec(), 4, 6)
    module = TokenModule(student, teacher, spec, PretrainConfig(), 200.0)
    module.fit_logs(rows(1, 16))
    batch = rows(2, 3)

    def standardised(backbone: SSMDP) -> Tensor:
        seen = alone(backbone, rows(1, 16))
        mean, spread = seen.mean((0, 2)), seen.std((0, 2), correction=0)
        return (alone(backbone, batch) - mean[:, None]) / spread[:, None]

    own, wanted = standardised(student.backbone), standardised(teacher)[:, :4]
    errors = []
    # Three blocks answer for four: the first one for two
    for block, share in enumerate(([0, 1], [2], [3])):
        to_share = student.maps[block]
        for place, of_teacher in enumerate(share):
            weight = to_share.weight[6 * place : 6 * place + 6]
            predicted = own[:, block] @ weight.T + to_share.bias[6 * place : 6 * place + 6]
            errors.append((predicted - wanted[:, of_teacher]) ** 2)
    expected = torch.stack(errors).mean()
    torch.testing.assert_close(module.loss(student, batch), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        module.loss(module.ema.ema_model, batch), expected, rtol=1e-4, atol=0
    )


def test_only_the_student_and_its_maps_learn() -> None:
    teacher = SSMDP(d_model=6, n_blocks=2, **SMALL)
    student = Student(SSMDP(d_model=4, n_blocks=2, **SMALL), TokenSpec(), 2, 6)
    module = TokenModule(student, teacher, TokenSpec(), PretrainConfig(), 200.0)
    module.loss(student, rows(0, 2)).backward()
    assert all(p.grad is None for p in teacher.parameters())
    learned = {name for name, p in student.named_parameters() if p.grad is not None}
    assert {"maps.0.weight", "maps.1.bias", "backbone.blocks.1.ssm.B"} <= learned
    assert not any(".skip." in name or ".head." in name for name in learned)
    # Several processes wait for the gradient of every parameter that asks for one
    assert learned == {name for name, p in student.named_parameters() if p.requires_grad}


def waves(seed: int, n: int) -> ChannelBatch:
    """Sines of 1 to 40 Hz, of any amplitude, in noise."""
    random, seconds = np.random.default_rng(seed), np.arange(400) / 200
    sfreq = np.exp(random.uniform(0, np.log(40), (n, 1)))
    wave = np.sin(2 * np.pi * (sfreq * seconds + random.uniform(size=(n, 1))))
    noise = 0.1 * random.standard_normal((n, 400))
    signal = (random.uniform(0.1, 2, (n, 1)) * wave + noise).astype(np.float32)
    return ChannelBatch(
        torch.from_numpy(signal[:, None]), torch.from_numpy(random.integers(22, size=n))
    )


def test_a_student_knows_more_than_its_first_weights_with_the_best_maps() -> None:
    """On new signals, after training, its loss is below what least squares reach on the tokens of
    the same student untrained.
    """
    torch.manual_seed(0)
    teacher = SSMDP(d_model=8, n_blocks=2, **SMALL)
    student = Student(SSMDP(d_model=4, n_blocks=1, **SMALL), TokenSpec(), 2, 8)
    module = TokenModule(student, teacher, TokenSpec(), PretrainConfig(), 200.0)
    module.fit_logs(waves(0, 256))

    @torch.no_grad()
    def own_and_wanted(batch: ChannelBatch) -> tuple[np.ndarray, np.ndarray]:
        own = logs_of(student.backbone, batch, TokenSpec(), 200.0).flatten(0, 3)
        wanted = module.logs(logs_of(teacher, batch, TokenSpec(), 200.0)).transpose(1, 2)
        known = np.column_stack([own, np.ones(len(own))])
        return known.astype(float), wanted.flatten(0, 1).flatten(1).numpy().astype(float)

    learned, tested = own_and_wanted(waves(1, 256)), own_and_wanted(waves(2, 256))
    best = np.linalg.lstsq(*learned, rcond=None)[0]
    untrained = ((tested[0] @ best - tested[1]) ** 2).mean()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    for step in range(100):
        optimizer.zero_grad()
        module.loss(student, waves(10 + step, 32)).backward()
        optimizer.step()
    with torch.no_grad():
        assert module.loss(student, waves(2, 256)).item() < 0.95 * untrained < 0.9


# -------------------------------------------------------------------------------------- the folder


@pytest.fixture(scope="module")
def student(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stage("distill", words_of(finished, tmp_path_factory.mktemp("students")))


def test_a_student_is_a_backbone_that_names_its_teacher(finished: Finished, student: Path) -> None:
    made = artifacts.open_artifact(student, "backbone")
    teacher = artifacts.open_artifact(finished.backbone).fingerprint
    assert made.inputs["teacher"] == teacher
    about = artifacts.read_json(student / "config.json")
    assert about["teacher"] == teacher
    assert about["config"]["n_blocks"] == 1 and about["people"]
    card = (student / "README.md").read_text()
    assert teacher in card and "cannot denoise" in card
    for file in ("config.json", "README.md", "plan.json", "manifest.json"):
        assert str(finished.root) not in (student / file).read_text()
    curves = pd.read_csv(student / "curves.csv")
    assert len(curves) == 2 and curves.val_loss[1] < curves.val_loss[0]
    assert not (student / "checkpoints").exists() and artifacts.verify(student) == []
    methods = "\n".join(describe_methods(student))
    assert teacher in methods and "velocity" not in methods


def test_later_stages_read_it_and_say_whose_student_it_is(
    finished: Finished, student: Path
) -> None:
    words = without_teacher(words_of(finished, student.parents[2]))
    run_stage("cache", words)
    classifier = run_stage("finetune", words)
    model = eegdm.load(classifier)
    assert model.backbone.config["n_blocks"] == 1
    assert model.info["teacher"] == artifacts.read_json(student / "config.json")["teacher"]
    report = (run_stage("report", words) / "report.html").read_text()
    assert "predict its teacher&#39;s tokens" in report and "velocity" not in report
    for one in (student, classifier, model):
        with pytest.raises(UserError, match="not to denoise: it generates no EEG"):
            generate(one, n=1)


def test_a_finished_student_is_left_alone_and_has_one_teacher(
    finished: Finished, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(finished, student.parents[2])
    assert run_stage("distill", words) == student
    assert f"{student} is finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="teacher"):
        run_stage("distill", words_of(finished, student.parents[2], model="classifier"))


def test_of_a_classifier_the_blocks_that_it_reads_are_learned(
    own: Finished, tmp_path: Path
) -> None:
    of_first = [*own.words, "seed=1", "fusion.last_block=1"]
    classifier = run_stage("finetune", of_first)
    words = words_of(own._replace(classifier=classifier), tmp_path, model="classifier")
    folder = run_stage("distill", words)
    made = artifacts.open_artifact(folder)
    assert made.inputs["teacher"] == artifacts.open_artifact(classifier).fingerprint
    with pytest.raises(UserError, match="n_blocks=2: the teacher has 1 blocks to learn from"):
        run_stage("distill", [*words, "backbone.n_blocks=2"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["backbone.n_blocks=3"], "backbone.n_blocks=3: the teacher has 2 blocks"),
        (["latents.pool=[mean]"], "have to be standard deviations"),
        (["latents.forward=noisy", "latents.cached=false"], "without noise"),
        (["diffusion.n_steps=20"], r"is a backbone with diffusion.n_steps=10, not 20"),
        (["signal.mu=0"], r"is a backbone with signal.mu=255.0, not 0"),
    ],
)
def test_contradictions_are_refused_and_nothing_is_written(
    finished: Finished, tmp_path: Path, words: list[str], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        run_stage("distill", words_of(finished, tmp_path, *words))
    assert not list(tmp_path.iterdir())


def test_a_teacher_is_named_where_there_is_one(finished: Finished, tmp_path: Path) -> None:
    words = words_of(finished, tmp_path)
    with pytest.raises(UserError, match="name the teacher with model="):
        run_stage("distill", without_teacher(words))
    with pytest.raises(UserError, match="pretrain has no teacher"):
        run_stage("pretrain", words)
