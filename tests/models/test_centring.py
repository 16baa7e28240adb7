"""Centred tokens say how a window differs from what is usual for a person, and nothing of gains."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import eegdm
from eegdm import EEGDM
from eegdm.errors import UserError
from eegdm.models.centring import joint_reference, reference_of
from eegdm.models.latents import extract

CHANNELS = ("FP1-F7", "C3-CZ", "P4-O2")


def model(kind: str = "lft", centre: str | None = "recording", **settings) -> EEGDM:
    torch.manual_seed(0)
    fusion = {"kind": kind} | ({} if kind == "linear" else {"depth": 1, "n_heads": 2})
    return EEGDM(
        {"d_model": 8, "n_blocks": 2, "d_state": 4, "d_cond": 8, "d_embed": 8},
        fusion,
        channels=CHANNELS,
        classes=("a", "b"),
        centre=centre,
        **settings,
    ).eval()


def tokens(n: int = 7, seed: int = 0) -> Tensor:
    """(window, block, pool, query, channel, feature), standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, 2, 5, 1, 3, 8), generator=generator).exp() / 10


def test_the_reference_is_the_geometric_mean_over_windows() -> None:
    pooled = tokens().mean(2)
    found = reference_of(pooled).numpy()
    for block in range(2):
        for channel in range(3):
            own = pooled[:, block, 0, channel].numpy().astype(float)
            floor = 1e-3 * own.mean()
            for feature in range(8):
                logs = [math.log(own[window, feature] + floor) for window in range(7)]
                expected = math.exp(sum(logs) / 7)
                assert found[block, 0, channel, feature] == pytest.approx(expected, rel=1e-5)


def test_the_log_of_a_centred_token_is_its_distance_from_the_mean_log() -> None:
    """The treatment of `eegdm evaluate`, up to the floor."""
    pooled = tokens().mean(2)
    found = model().centred(tokens(), reference_of(pooled)).mean(2).log()
    expected = pooled.log() - pooled.log().mean(0)
    assert (found - expected).abs().max() < 0.05
    assert expected.abs().max() > 1


def test_a_gain_of_a_channel_cancels() -> None:
    gain = torch.tensor([0.2, 1.0, 7.0])[:, None]
    for kind in ("lft", "linear"):
        classifier, plain = model(kind), model(kind, centre=None)
        for of_gain in (gain, torch.linspace(0.2, 0.9, 6).view(2, 1, 1, 3, 1)):
            louder = of_gain * tokens()
            same = [
                classifier.logits_from_tokens(t, None, reference_of(t.mean(2)))
                for t in (tokens(), louder)
            ]
            torch.testing.assert_close(same[1], same[0], rtol=1e-5, atol=1e-5)
            moved = plain.logits_from_tokens(tokens()) - plain.logits_from_tokens(louder)
            assert moved.abs().max() > 0.01


def test_one_reference_serves_all_windows_and_each_may_have_its_own() -> None:
    classifier, one = model(), reference_of(tokens().mean(2))
    other = reference_of(tokens(seed=1).mean(2))
    together = classifier.logits_from_tokens(tokens(2), None, torch.stack([one, other]))
    apart = [
        classifier.logits_from_tokens(tokens(2)[k : k + 1], None, reference)
        for k, reference in enumerate((one, other))
    ]
    torch.testing.assert_close(together, torch.cat(apart))


def test_windows_and_their_reference_give_the_logits_of_their_centred_tokens() -> None:
    x = torch.randn(20, 3, 1000)
    for kind in ("lft", "linear"):
        classifier = model(kind)
        with torch.no_grad():
            raw = extract(classifier.backbone, x, classifier.channel_ids, classifier.spec)
            reference = reference_of(raw.mean(2))
            expected = classifier.fusion(raw / reference[:, None])
            torch.testing.assert_close(classifier.reference(x), reference)
            torch.testing.assert_close(classifier(x, reference=classifier.reference(x)), expected)


def test_a_silent_stretch_or_channel_decides_nothing() -> None:
    pooled = tokens().mean(2)
    pooled[3, :, :, 1], pooled[:, :, :, 2] = 0, 0
    found, usual = reference_of(pooled), reference_of(tokens().mean(2))
    assert (found[:, :, 1] / usual[:, :, 1]).log().abs().max() < 1.5  # a log floor over 7 windows
    centred = pooled / found
    assert centred.isfinite().all() and (centred[:, :, :, 2] == 0).all()


def test_over_several_recordings_windows_count_alike_and_absent_channels_do_not() -> None:
    references = torch.stack([reference_of(tokens(seed=k).mean(2)) for k in range(2)])
    found = joint_reference(references, torch.tensor([[6.0, 6.0, 0.0], [2.0, 0.0, 0.0]]))
    one, other = references.double().numpy()
    expected = np.exp((6 * np.log(one[:, :, 0]) + 2 * np.log(other[:, :, 0])) / 8)
    assert found[:, :, 0].numpy() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(found[:, :, 1], references[0, :, :, 1])
    assert (found[:, :, 2] == 1).all()


def test_a_centred_classifier_is_never_asked_without_a_reference() -> None:
    x = torch.zeros(2, 3, 1000)
    with pytest.raises(UserError, match="centred per recording: it needs reference="):
        model()(x)
    with pytest.raises(UserError, match="it needs reference="):
        model("linear", centre="subject").logits_from_tokens(tokens())
    with pytest.raises(UserError, match="not centred; leave reference= out"):
        model(centre=None)(x, reference=torch.ones(2, 1, 3, 8))


def test_what_can_not_be_centred_is_refused() -> None:
    with pytest.raises(UserError, match="centre='person' is unknown; choose from recording, sub"):
        model(centre="person")
    with pytest.raises(UserError, match="pool mean"):
        model(tokens={"pool": ["mean"]})
    with pytest.raises(UserError, match="forward=noisy"):
        model(tokens={"forward": "noisy"})
    with pytest.raises(UserError, match="is one window long"):
        model().reference(torch.randn(1, 3, 1000))


def test_its_folder_says_that_it_is_centred(tmp_path: Path) -> None:
    assert "centre" not in model(centre=None).config
    centred = model("linear", centre="subject")
    loaded = eegdm.load(centred.save_pretrained(tmp_path / "model"))
    assert isinstance(loaded, EEGDM) and loaded.config == centred.config
    assert loaded.centre == "subject"
