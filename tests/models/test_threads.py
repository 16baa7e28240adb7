"""Rows divided among threads: the same results, in the caller's modes, and nothing left behind."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from eegdm.models import convolution, residual
from eegdm.models.backbone import SSMDP
from eegdm.models.threads import over_rows


def made() -> SSMDP:
    torch.manual_seed(0)
    model = SSMDP(d_model=8, n_blocks=3, d_state=8, d_cond=12, d_embed=16).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_each_thread_takes_its_rows_in_the_mode_of_the_caller(
    on_two_threads: None, mode: type
) -> None:
    others = threading.active_count()
    meeting = threading.Barrier(2, timeout=30)  # passed only by two threads at once

    def look(rows: slice) -> tuple[slice, int, bool, bool]:
        meeting.wait()
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        return rows, torch.get_num_threads(), *modes

    with mode():
        expected = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = over_rows(torch.zeros(5, 1), look)
    assert found == [(slice(0, 2), 1, *expected), (slice(2, 5), 1, *expected)]
    assert torch.get_num_threads() == 2 and threading.active_count() == others


def test_a_failure_in_any_thread_is_raised_and_leaves_nothing_behind(on_two_threads: None) -> None:
    others = threading.active_count()
    for failing in (0, 2):

        def fail(rows: slice, failing: int = failing) -> None:
            if rows.start == failing:
                raise ValueError(rows)

        with pytest.raises(ValueError, match=rf"slice\({failing}"):
            over_rows(torch.zeros(4, 1), fail)
        assert torch.get_num_threads() == 2 and threading.active_count() == others


def test_an_interrupted_pass_ends_with_the_chunks_under_way(
    on_two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, began, gates = [], threading.Event(), residual._Work.gates

    def interrupted(self: residual._Work, *args: Any, **settings: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            began.wait(30)
            raise KeyboardInterrupt
        taken.append(self)
        began.set()
        time.sleep(0.05)
        return gates(self, *args, **settings)

    monkeypatch.setattr(residual._Work, "gates", interrupted)
    monkeypatch.setattr(convolution, "at_once", lambda device: 1)  # one row at a time
    with torch.no_grad(), pytest.raises(KeyboardInterrupt):
        made().tokens(noise(1, 20, 1000), range(20))
    assert 1 <= len(taken) < 30  # ten rows in three blocks


@pytest.mark.parametrize("n_rows", [1, 3])
def test_rows_that_would_leave_a_thread_without_work_stay_together(
    on_two_threads: None, n_rows: int
) -> None:
    found = over_rows(torch.zeros(n_rows, 1), lambda rows: (rows, torch.get_num_threads()))
    assert found == [(slice(0, n_rows), 2)]


@pytest.mark.parametrize("n_channels", [1, 3, 4, 22])
def test_tokens_and_velocities_are_those_of_one_thread(
    on_two_threads: None, n_channels: int
) -> None:
    model, x = made(), noise(2, n_channels, 1000)
    rows = (
        x.flatten(0, 1)[:, None, :300],
        torch.arange(2 * n_channels),
        torch.arange(2 * n_channels) % 22,
    )
    with torch.inference_mode():
        found = model.tokens(x, range(n_channels)), model(*rows)
        torch.set_num_threads(1)
        expected = model.tokens(x, range(n_channels)), model(*rows)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


def test_gradients_are_those_of_one_thread_and_repeat_bit_for_bit(on_two_threads: None) -> None:
    model, x, index = made(), noise(6, 1, 300), torch.arange(6)

    def gradients() -> list[Tensor]:
        loss = model(x, index, index).square().mean()
        return list(torch.autograd.grad(loss, list(model.parameters())))

    found, again = gradients(), gradients()
    torch.set_num_threads(1)
    for one, same, expected in zip(found, again, gradients(), strict=True):
        assert torch.equal(one, same)
        assert (one - expected).abs().max() <= 1e-5 * expected.abs().max()
