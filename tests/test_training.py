"""Training pieces against the golden numbers of golden/open and against plain computations."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.numpy import load_file
from torch.utils.data import Dataset

from conftest import golden_folder
from eegdm.checkpoints.published import load_original
from eegdm.compose import compose
from eegdm.config import EmaConfig, FinetuneConfig, PretrainConfig
from eegdm.data.batches import DenoisingBatch, GlobalBatches, loader
from eegdm.errors import UserError
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule
from eegdm.models.fusion import LatentFusionTransformer
from eegdm.training import (
    DenoisingModule,
    TimeEstimate,
    criterion,
    denoising_groups,
    finite,
    fit_module,
    fusion_groups,
    in_order,
    make_trainer,
    moving_average,
)

OPEN = golden_folder("open")
EXPECTED = json.loads((OPEN / "expected.json").read_text())
TENSORS = load_file(OPEN / "expected.safetensors")


def test_onecycle_moves_rate_and_beta1_as_published() -> None:
    fusion = LatentFusionTransformer(
        n_blocks=1, n_pools=2, n_channels=2, d_model=8, n_tokens=2, n_heads=2, depth=1
    )
    c = FinetuneConfig()
    optimizer = torch.optim.AdamW(
        fusion_groups(fusion, c.weight_decay), lr=c.max_lr / c.div, betas=(c.betas[0], c.betas[1])
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=c.max_lr,
        total_steps=100,
        pct_start=c.pct_start,
        div_factor=c.div,
        final_div_factor=c.final_div,
    )
    rates, betas = [], []
    for _ in range(100):
        rates.append([g["lr"] for g in optimizer.param_groups])
        betas.append([g["betas"][0] for g in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates, TENSORS["onecycle_lr"], rtol=1e-12)
    np.testing.assert_allclose(betas, TENSORS["onecycle_beta1"], rtol=1e-12)
    assert {g["betas"][1] for g in optimizer.param_groups} == set(EXPECTED["onecycle_beta2"])


def test_the_moving_average_warms_up_as_published() -> None:
    model = torch.nn.Module()
    model.register_parameter("w", torch.nn.Parameter(torch.zeros(2)))
    ema = moving_average(model, EmaConfig())
    found, decays = [], []
    for online in torch.from_numpy(TENSORS["ema_online"]):
        model.w.data.copy_(online)
        ema.update()
        found.append(ema.ema_model.w.detach().clone())
        decays.append(float(ema.get_current_decay()))
    np.testing.assert_allclose(decays, TENSORS["ema_decay"], rtol=1e-6)
    np.testing.assert_allclose(
        torch.stack(found),
        TENSORS["ema_value"],
        rtol=0,
        atol=1e-6 * np.abs(TENSORS["ema_value"]).max(),
    )


def logits(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(TENSORS[f"crit_{name}logits"]), torch.from_numpy(
        TENSORS[f"crit_{name}labels"]
    )


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"label_smoothing": 0.1}, "multi_ls0.1"),
        ({"label_smoothing": 0.0}, "multi_ls0"),
        (
            {"label_smoothing": 0.1, "class_weights": EXPECTED["criterion"]["weights"]},
            "multi_ls0.1_weights",
        ),
    ],
)
def test_cross_entropy_as_published(settings: dict, key: str) -> None:
    assert float(criterion(FinetuneConfig(**settings))(*logits(""))) == pytest.approx(
        EXPECTED["criterion"][key], rel=1e-6
    )


def test_binary_loss_as_published() -> None:
    values, labels = logits("bin_")
    loss = criterion(FinetuneConfig(loss="binary", pos_weight=150.51))(values[:, None], labels)
    assert float(loss) == pytest.approx(EXPECTED["criterion"]["bin_pos150.51"], rel=1e-6)


def counted(groups: list[dict]) -> list[tuple[float, int]]:
    return [(g["weight_decay"], sum(p.numel() for p in g["params"])) for g in groups]


def test_the_fusion_transformers_groups_are_the_published_ones() -> None:
    model = load_original(OPEN / "classifier.ckpt")
    model.backbone.requires_grad_(False)
    decayed, kept = EXPECTED["adamw_lft_at_creation_after_onecycle"]
    shapes = {n: p.numel() for n, p in model.fusion.named_parameters()}
    trained = [g for g in (decayed["names"], kept["names"])]
    n_ours = [len(g["params"]) for g in fusion_groups(model, 0.05)]
    assert n_ours == [sum("extractor" not in name for name in names) for names in trained]
    assert (
        counted(fusion_groups(model, 0.05))[0][0] == decayed["weight_decay"]
        and kept["weight_decay"] == 0
    )
    in_decayed = {id(p) for p in fusion_groups(model, 0.05)[0]["params"]}
    assert (
        id(model.fusion.position) in in_decayed and id(model.fusion.fusion_tokens) not in in_decayed
    )
    assert sum(shapes.values()) == EXPECTED["n_params"]["lft"]


def test_the_backbones_state_space_is_never_decayed() -> None:
    model = SSMDP(d_model=8, n_blocks=2, d_state=4, d_cond=8, d_embed=8)
    (weight_decay, _), (none, n_kept) = counted(denoising_groups(model, 0.3))
    assert (weight_decay, none) == (0.3, 0.0)
    per_block = 16 * 2 * 2 + 16 + 16 * 2 * 2  # A (re, im), dt, B (re, im) of 16 SSMs with 2 pairs
    assert n_kept == 2 * per_block
    assert (
        len(EXPECTED["adamw_backbone"][2]["names"]) == 4 * 3
    )  # published: the same four parameters per block


def test_the_learning_rate_falls_by_a_cosine_and_the_state_space_has_its_own(
    tmp_path: Path,
) -> None:
    """After step s of n the rate is last + (first - last) (1 + cos(pi s / n)) / 2, over all
    epochs; the state space's falls by the same share.
    """
    n_steps, first, last, ssm = 6, 1e-2, 1e-3, 2e-3
    config = PretrainConfig(lr=first, last_lr=last, ssm_lr=ssm, epochs=2)
    model = SSMDP(d_model=8, n_blocks=1, d_state=4, d_cond=8, d_embed=8)
    module = DenoisingModule(model, NoiseSchedule(10), config, 100.0)
    found: list[list[float]] = []

    class Rates(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            found.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    trainer = make_trainer(compose(["device=cpu"]), tmp_path, config.epochs, 1.0, [Rates()])
    fit_module(trainer, module, loader(RandomWindows(), 8, 0), None)
    share = (1 + np.cos(np.pi * np.arange(1, n_steps + 1) / n_steps)) / 2
    rate = last + (first - last) * share
    expected = np.stack([rate, rate * ssm / first], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


class RandomWindows(Dataset):
    """24 windows of noise, three batches of eight."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, keys: list[tuple[int, int]]) -> DenoisingBatch:
        x = torch.randn(len(keys), 1, 50)
        step = torch.zeros(len(keys), dtype=torch.long)
        return DenoisingBatch(x, torch.randn_like(x), step, step)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_a_sentence(bad: float) -> None:
    with pytest.raises(UserError, match="checkpoint of the epoch before is kept"):
        finite(torch.tensor(bad))


class Seen(L.LightningModule):
    """Learns nothing of note and remembers which samples it was given in each epoch; told so, it
    breaks off as an epoch begins.
    """

    def __init__(self, breaks_at: int | None = None) -> None:
        super().__init__()
        self.weight, self.breaks_at = torch.nn.Parameter(torch.zeros(())), breaks_at
        self.seen: dict[int, list[list[tuple[int, int]]]] = {}

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.breaks_at:
            raise RuntimeError("broken off")

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).append([tuple(key) for key in batch.tolist()])
        return self.weight**2

    def validation_step(self, *_: object) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Keys(torch.utils.data.Dataset):
    """Gives back what it is asked for."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, keys: list[tuple[int, int]]) -> torch.Tensor:
        return torch.tensor(keys)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("breaks_at", [1, 2])
def test_a_resumed_training_sees_the_batches_of_its_epoch(
    workers: int, breaks_at: int, tmp_path: Path
) -> None:
    """Workers that fetch ahead must not begin a resumed epoch with another epoch's order."""
    config = compose([f"root={tmp_path}", "run.device=cpu"])
    first, resumed = Seen(breaks_at), Seen()
    for module in (first, resumed):
        trainer = make_trainer(config, tmp_path, 4, 1.0, [])
        with (
            nullcontext() if module is resumed else pytest.raises(RuntimeError, match="broken off")
        ):
            fit_module(
                trainer, module, loader(Keys(), 4, 7, workers), loader(Keys(), 4, None, workers)
            )
    assert sorted(first.seen) == list(range(breaks_at)) and sorted(resumed.seen) == list(
        range(breaks_at, 4)
    )
    order = GlobalBatches(10, 4, 7)
    for epoch, seen in (first.seen | resumed.seen).items():
        order.set_epoch(epoch)
        assert seen == list(order)


def test_logits_are_put_back_in_order() -> None:
    values = np.arange(10.0)[:, None]
    found = [
        (np.array([7, 1, 3]), values[[7, 1, 3]]),
        (np.array([0, 2, 4, 5, 6, 8, 9]), values[[0, 2, 4, 5, 6, 8, 9]]),
    ]
    assert (in_order(found) == values).all()


@pytest.mark.parametrize(
    "seconds, epoch, said",
    [(1.0, 0, "about 8.3 h"), (1.0, 90, "about 0.8 h"), (0.01, 0, None)],
)
def test_a_long_training_says_how_long_it_takes(
    seconds: float, epoch: int, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 epochs of 300 batches, each of so many seconds after the first four, which are slow."""
    now = [0.0]
    trainer = SimpleNamespace(
        is_global_zero=True, max_epochs=100, current_epoch=epoch, num_training_batches=300
    )
    estimate = TimeEstimate("; backbone=mini needs none", clock=lambda: now[0])
    for batch in range(300):
        now[0] += 1000.0 if batch < 4 else seconds
        estimate.on_train_batch_end(trainer)
    printed = capsys.readouterr().out
    assert printed.count("about") == (said is not None)
    if said is not None:
        assert said in printed and "backbone=mini needs none" in printed
