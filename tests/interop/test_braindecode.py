"""braindecode's contract for models, point by point."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import jaxtyping
import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.models.base import EEGModuleMixin
from braindecode.models.util import (
    _chs_info_3ch,
)  # what braindecode's own tests of all models use: C1, C2, C3
from safetensors.torch import load_file, save_file

from eegdm import SSMDP
from eegdm.braindecode import EEGDM
from eegdm.data.montage import TCP
from eegdm.data.signal import compand
from eegdm.errors import UserError
from stages.tiny import one_thread

SIZE = {
    "backbone": {"d_model": 8, "n_blocks": 2, "d_state": 8, "d_cond": 8, "d_embed": 8},
    "fusion": {"n_tokens": 2, "n_heads": 2, "depth": 1},
}
SIGNAL = {"n_outputs": 2, "chs_info": _chs_info_3ch, "n_times": 500, "sfreq": 250.0}
NO_PLACE = "channels have no name that gives their place"


def heeding(model: EEGDM | SSMDP) -> None:
    """Make an untrained backbone heed channel and step, as a trained one does."""
    torch.manual_seed(1)
    for block in (model.backbone if isinstance(model, EEGDM) else model).blocks:
        torch.nn.init.normal_(block.condition.weight)


@pytest.fixture
def model() -> EEGDM:
    torch.manual_seed(0)
    model = EEGDM(**SIGNAL, **SIZE).eval()
    heeding(model)
    return model


@pytest.fixture
def x() -> torch.Tensor:
    """Windows in volts; some amplitudes are above 100 µV."""
    return 80e-6 * torch.randn(4, 3, 500, generator=torch.Generator().manual_seed(0))


def epochs(n: int = 12) -> tuple[mne.EpochsArray, np.ndarray]:
    y = np.arange(n) % 2
    data = (
        np.random.default_rng(0).normal(scale=20e-6, size=(n, 3, 500)) * (1 + 4 * y)[:, None, None]
    )
    return (
        mne.EpochsArray(data, mne.create_info(["C3", "Cz", "C4"], 250.0, "eeg"), verbose="ERROR"),
        y,
    )


# ------------------------------------------------------------------------------ signal parameters


@pytest.mark.parametrize(
    "channels, lengths",
    list(
        itertools.product(
            (
                {"n_chans": 3},
                {"chs_info": _chs_info_3ch},
                {"n_chans": 3, "chs_info": _chs_info_3ch},
            ),
            (
                {"n_times": 500, "sfreq": 250.0},
                {"n_times": 500, "input_window_seconds": 2.0},
                {"sfreq": 250.0, "input_window_seconds": 2.0},
                {"n_times": 500, "sfreq": 250.0, "input_window_seconds": 2.0},
            ),
        )
    ),
)
@pytest.mark.filterwarnings(f"ignore:.*{NO_PLACE}")
def test_missing_parameters_follow_from_the_others(channels: dict, lengths: dict) -> None:
    model = EEGDM(n_outputs=4, **channels, **lengths, **SIZE).eval()
    assert (model.n_chans, model.n_times, model.sfreq, model.input_window_seconds) == (
        3,
        500,
        250.0,
        2.0,
    )
    assert model.input_shape == (1, 3, 500) and model.get_output_shape() == (1, 4)
    assert model(torch.randn(5, 3, 500)).isfinite().all()


@pytest.mark.parametrize("lacking", ["n_outputs", "chs_info", "n_times", "sfreq"])
def test_what_does_not_follow_is_said_to_be_missing(lacking: str) -> None:
    with pytest.raises(
        ValueError,
        match=f"{lacking.replace('chs_info', 'n_chans')} (not specified|could not be inferred)",
    ):
        EEGDM(**{name: value for name, value in SIGNAL.items() if name != lacking}, **SIZE)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="n_times=500 different from"):
        EEGDM(**SIGNAL, input_window_seconds=3.0, **SIZE)
    with pytest.raises(ValueError, match="n_chans=4 different from"):
        EEGDM(**SIGNAL, n_chans=4, **SIZE)


# --------------------------------------------------------------------------------- head, features


def test_it_is_a_module_of_braindecode_with_final_layer_last(model: EEGDM) -> None:
    assert (
        isinstance(model, EEGModuleMixin)
        and list(dict(model.named_children()))[-1] == "final_layer"
    )
    assert isinstance(model.final_layer, torch.nn.Linear) and "final_layer" in str(model)


def test_features_are_what_the_final_layer_is_given(model: EEGDM, x: torch.Tensor) -> None:
    found = model(x, return_features=True)
    assert (
        found.keys() == {"features", "cls_token"}
        and found["cls_token"] is None
        and found["features"].shape == (4, 8)
    )
    torch.testing.assert_close(model.final_layer(found["features"]), model(x))


def test_reset_head_leaves_the_rest(model: EEGDM, x: torch.Tensor) -> None:
    features = model(x, return_features=True)["features"]
    model.reset_head(7)
    assert (
        model.n_outputs == 7 and model(x).shape == (4, 7) and model.get_config()["n_outputs"] == 7
    )
    torch.testing.assert_close(model(x, return_features=True)["features"], features)
    with pytest.raises(ValueError, match="must be positive"):
        model.reset_head(0)


# ----------------------------------------------------------------------------- config and weights


@pytest.mark.filterwarnings("ignore:Modifying chs_info")
def test_config_round_trip(model: EEGDM, x: torch.Tensor) -> None:
    config = json.loads(json.dumps(model.get_config()))
    again = EEGDM.from_config(config).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    assert json.dumps(again.get_config()) == json.dumps(config)


@pytest.mark.filterwarnings("ignore:Modifying chs_info")
def test_saved_and_loaded_without_pickle(model: EEGDM, x: torch.Tensor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    torch.testing.assert_close(EEGDM.from_pretrained(tmp_path).eval()(x), model(x), rtol=0, atol=0)
    other = EEGDM.from_pretrained(tmp_path, n_outputs=5).eval()
    assert other(x).shape == (4, 5)
    torch.testing.assert_close(
        other(x, True)["features"], model(x, True)["features"], rtol=0, atol=0
    )


@pytest.mark.filterwarnings("ignore:Modifying chs_info")
@pytest.mark.parametrize("fault", ["Missing", "Unexpected"])
def test_weights_that_do_not_fit_are_refused(model: EEGDM, tmp_path: Path, fault: str) -> None:
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bias = tensors.pop("backbone.lift.bias")
    more = {} if fault == "Missing" else {"backbone.lift.bias": bias, "more": torch.zeros(1)}
    save_file({**tensors, **more}, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=f"{fault} key"):
        EEGDM.from_pretrained(tmp_path)


def test_channels_of_mne_without_positions_are_kept(tmp_path: Path) -> None:
    data, _ = epochs()
    assert np.isnan(data.info["chs"][0]["loc"]).any()
    model = EEGDM(**{**SIGNAL, "chs_info": data.info["chs"]}, **SIZE)
    json.dumps(model.get_config(), allow_nan=False)
    model.save_pretrained(tmp_path)
    assert EEGDM.from_pretrained(tmp_path)._channel_ids == model._channel_ids


def test_copies_and_pickles_compute_the_same(model: EEGDM, x: torch.Tensor) -> None:
    expected = model(x)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(again(x), expected, rtol=0, atol=0)


# ------------------------------------------------------------------------------- what is computed


def test_a_trained_backbone_reads_known_channels_as_ever(x: torch.Tensor, tmp_path: Path) -> None:
    backbone = SSMDP(**SIZE["backbone"]).eval()
    heeding(backbone)
    chs_info = [{"ch_name": name} for name in ("FP1-F7", "C4-CZ", "FC3")]
    signal = {**SIGNAL, "chs_info": chs_info}
    ids = [0, TCP.index("C4-CZ"), TCP.index("F3-C3")]
    with torch.no_grad():
        expected = backbone.tokens(torch.from_numpy(compand(x.numpy() * 1e4)), ids, sfreq=250.0)
    for given in (backbone, backbone.save_pretrained(tmp_path)):
        model = EEGDM.from_backbone(given, **signal, fusion=SIZE["fusion"]).eval()
        torch.testing.assert_close(
            model._tokens(model._model_units(x)), expected, rtol=1e-5, atol=1e-6
        )
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_linear_readout_gives_the_final_layer_the_logs_of_tokens(
    x: torch.Tensor, tmp_path: Path, per_channel: bool
) -> None:
    """Nothing but the final layer is untrained, so that a frozen backbone is probed as it is."""
    torch.manual_seed(0)
    backbone = SSMDP(**SIZE["backbone"]).eval()
    heeding(backbone)
    fusion = {"kind": "linear", "per_channel": per_channel}
    model = EEGDM.from_backbone(backbone, **SIGNAL, fusion=fusion).eval()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "final_layer.weight",
        "final_layer.bias",
    }
    with torch.no_grad():
        logs = (model._tokens(model._model_units(x)).mean(2)[:, :, 0] + 1e-3).log()
        features = model(x, return_features=True)["features"]
    logs = logs.transpose(1, 2).flatten(2)
    expected = logs.flatten(1) if per_channel else logs.mean(1)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(model(x), model.final_layer(features))
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(EEGDM.from_pretrained(tmp_path).eval()(x), model(x))


def test_channels_without_a_place_take_the_mean_of_the_22(x: torch.Tensor) -> None:
    with pytest.warns(UserWarning, match=f"3 of 3 {NO_PLACE}"):
        model = EEGDM(**{**SIGNAL, "chs_info": None}, n_chans=3, **SIZE).eval()
    table = model.backbone.channel_embed.weight
    torch.testing.assert_close(table[22], table[:22].mean(0))
    heeding(model)
    assert model._channel_ids == [22, 22, 22] and model(x).isfinite().all()
    with pytest.warns(UserWarning, match=f"1 of 3 {NO_PLACE}"):
        assert (
            EEGDM(
                **{**SIGNAL, "chs_info": [{"ch_name": n} for n in ("C3", "EOG", "Cz")]}, **SIZE
            )._channel_ids[1]
            == 22
        )


def test_labels_that_only_look_like_electrodes_have_no_place() -> None:
    chs_info = [{"ch_name": f"A{number}"} for number in range(1, 9)]
    with pytest.warns(UserWarning, match=f"8 of 8 {NO_PLACE}"):
        assert EEGDM(**{**SIGNAL, "chs_info": chs_info}, **SIZE)._channel_ids == [22] * 8


@pytest.mark.parametrize("unit, factor", [("mV", 1e3), ("uV", 1e6)])
def test_units(model: EEGDM, x: torch.Tensor, unit: str, factor: float) -> None:
    other = EEGDM(**SIGNAL, **SIZE, unit=unit).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(factor * x), model(x), rtol=1e-4, atol=1e-6)


def test_companding_is_that_of_the_recordings(model: EEGDM, x: torch.Tensor) -> None:
    torch.testing.assert_close(
        model._model_units(x), torch.from_numpy(compand(x.numpy() * 1e4)), rtol=1e-5, atol=1e-6
    )
    assert bool((x.abs() > 100e-6).any())
    plain = EEGDM(**SIGNAL, **SIZE, mu=0.0)
    torch.testing.assert_close(plain._model_units(x), 1e4 * x)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"unit": "µV"}, "unit='µV': choose from V, mV, uV"),
        ({"tokens": {"forward": "noisy"}}, "forward=noisy needs noise"),
        ({"tokens": {"widow": 100}}, "unknown settings widow"),
        ({"n_times": 100}, "holds no pool"),
    ],
)
def test_what_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EEGDM(**{**SIGNAL, **SIZE, **options})


def test_windows_of_another_shape_are_refused(model: EEGDM) -> None:
    for shape in ((3, 500), (1, 2, 500), (1, 3, 499)):
        with pytest.raises(UserError, match=r"this model takes \(batch, 3, 500\)"):
            model(torch.zeros(shape))


# --------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("train_backbone", [False, True])
def test_what_learns(x: torch.Tensor, train_backbone: bool) -> None:
    model = EEGDM(**SIGNAL, **SIZE, train_backbone=train_backbone).train()
    heeding(model)
    model(x).square().sum().backward()
    reached = {
        name.partition(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == (
        {"backbone", "fusion", "final_layer"} if train_backbone else {"fusion", "final_layer"}
    )
    assert model(x[:1]).shape == (1, 2)


@pytest.mark.parametrize("train_backbone", [False, True])
def test_the_signal_s_gradient_is_that_of_finite_differences(
    x: torch.Tensor, train_backbone: bool
) -> None:
    """As saliency maps need it; the weights of a frozen backbone get none."""
    torch.manual_seed(0)
    trained = SSMDP(**SIZE["backbone"])
    heeding(trained)
    model = EEGDM.from_backbone(
        trained, **SIGNAL, fusion=SIZE["fusion"], train_backbone=train_backbone
    )
    model, window = model.double().eval(), x[:1].double().requires_grad_()
    model(window)[0, 1].backward()
    assert window.grad is not None
    for channel in range(3):
        direction = torch.zeros_like(window)
        direction[0, channel] = torch.randn(500, dtype=torch.float64)
        step = 1e-9 * direction  # volts
        with torch.no_grad():
            slope = (model(window + step) - model(window - step))[0, 1] / 2e-9
        along = (window.grad * direction).sum()
        assert along.abs() > 0.1 and along.item() == pytest.approx(slope.item(), rel=1e-4)
    weights = [parameter.grad for parameter in model.backbone.parameters()]
    assert any(grad is not None for grad in weights) == train_backbone


def test_a_model_takes_companding_and_noise_schedule_from_its_backbone(tmp_path: Path) -> None:
    noise = {"schedule": "linear", "n_steps": 20, "beta_start": 1e-3, "beta_end": 0.3}
    folder = SSMDP(**SIZE["backbone"]).save_pretrained(
        tmp_path, info={"diffusion": noise, "signal": {"mu": 20.0}}
    )
    model = EEGDM.from_backbone(
        folder, **SIGNAL, fusion=SIZE["fusion"], tokens={"forward": "noiseless", "step": 5}
    )
    assert model.model_units.mu == 20.0 and model.spec.noise == noise
    again = EEGDM.from_config(json.loads(json.dumps(model.get_config())))
    assert again.model_units.mu == 20.0 and again.spec == model.spec
    asked = EEGDM.from_backbone(folder, **SIGNAL, fusion=SIZE["fusion"], mu=0.0)
    assert asked.model_units.mu == 0.0


@pytest.mark.ci
def test_eeg_classifier_fits_epochs() -> None:
    data, y = epochs()
    torch.manual_seed(0)
    sizes = {f"module__{name}": value for name, value in SIZE.items()}
    classifier = EEGClassifier(
        EEGDM,
        **sizes,
        classes=[0, 1],
        max_epochs=100,
        lr=5e-3,
        batch_size=12,
        optimizer=torch.optim.AdamW,
        train_split=None,
        verbose=0,
    )
    classifier.fit(data, y)
    assert classifier.module_._channel_ids == [
        TCP.index(name) for name in ("C3-P3", "C3-CZ", "C4-P4")
    ]
    assert classifier.score(data, y) == 1.0  # one class has five times the amplitude


def test_eeg_classifier_takes_a_model_that_is_built() -> None:
    data, y = epochs()
    module = EEGDM(**{**SIGNAL, "chs_info": data.info["chs"]}, **SIZE)
    classifier = EEGClassifier(
        module, classes=[0, 1], max_epochs=2, batch_size=12, train_split=None, verbose=0
    ).fit(data, y)
    assert len(classifier.history) == 2 and classifier.predict_proba(data).shape == (12, 2)


# ----------------------------------------------------------------------------- compile and export


@pytest.fixture(autouse=True)
def _programs_without_the_checks_of_the_test_run(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What checks shapes in this test run would leave its own operations in a program."""
    if any(word in request.node.name for word in ("traced", "export", "compiled")):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("train_backbone", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_traced_programs_take_any_batch_size_and_other_signals(
    x: torch.Tensor,
    tmp_path: Path,
    train_backbone: bool,
    gradients: bool,
) -> None:
    torch.manual_seed(0)
    model = EEGDM(**SIGNAL, **SIZE, train_backbone=train_backbone).eval()
    heeding(model)
    with torch.set_grad_enabled(gradients), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the shape is compared in Python
        torch.jit.trace(model, (x[:2],)).save(tmp_path / "model.pt")
        program = torch.jit.load(tmp_path / "model.pt")
    for windows in (x, x[:1], 3 * x[1:]):
        torch.testing.assert_close(program(windows), model(windows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype, error", [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
@pytest.mark.parametrize("train_backbone", [False, True])
def test_autocast_is_accurate_to_its_number_format(
    x: torch.Tensor, dtype: torch.dtype, error: float, train_backbone: bool
) -> None:
    torch.manual_seed(0)
    model = EEGDM(**SIGNAL, **SIZE, train_backbone=train_backbone)
    heeding(model)
    expected = model(x)
    with torch.autocast("cpu", dtype=dtype):
        found = model(x)
    assert found.dtype == dtype and (found - expected).abs().max() <= error * expected.abs().max()
    found.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_sixteen_bit_weights_are_refused_in_one_line(model: EEGDM, x: torch.Tensor) -> None:
    for cast in (EEGDM.half, EEGDM.bfloat16):
        with pytest.raises(
            UserError, match="weights are torch.b?float16, too coarse .* torch.autocast"
        ):
            cast(copy.deepcopy(model))(x.half())


@pytest.mark.ci
@pytest.mark.parametrize("strict", [False, True])
def test_export_with_any_batch_size(model: EEGDM, x: torch.Tensor, strict: bool) -> None:
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(model, (x[:2],), dynamic_shapes=batch, strict=strict).module()
    for some in (x, x[:1], x[:3]):
        torch.testing.assert_close(program(some), model(some), rtol=1e-5, atol=1e-6)


@pytest.mark.ci
def test_an_exported_program_runs_in_another_process(
    model: EEGDM, x: torch.Tensor, tmp_path: Path
) -> None:
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    save_file({"x": x}, tmp_path / "x.safetensors")
    script = """
import sys, torch, eegdm.braindecode
from safetensors.torch import load_file, save_file
program = torch.export.load(sys.argv[1] + "/model.pt2").module()
save_file({"y": program(load_file(sys.argv[1] + "/x.safetensors")["x"]).detach()}, sys.argv[1] + "/y.safetensors")
"""  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        timeout=240,
        env=one_thread(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(
        load_file(tmp_path / "y.safetensors")["y"], model(x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.ci
def test_compiled_for_inference_as_one_graph(model: EEGDM, x: torch.Tensor) -> None:
    torch.compiler.reset()
    with torch.no_grad():
        torch.testing.assert_close(
            torch.compile(model, fullgraph=True)(x), model(x), rtol=1e-4, atol=1e-5
        )


@pytest.mark.ci
@pytest.mark.parametrize("train_backbone", [False, True])
def test_compiled_for_training(x: torch.Tensor, train_backbone: bool) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = EEGDM(**SIGNAL, **SIZE, train_backbone=train_backbone).train()
    heeding(model)
    compiled = copy.deepcopy(model)
    for each in (model, torch.compile(compiled, backend="aot_eager")):
        each(x).square().sum().backward()
    for (name, plain), other in zip(model.named_parameters(), compiled.parameters(), strict=True):
        if plain.grad is not None:
            torch.testing.assert_close(other.grad, plain.grad, rtol=1e-3, atol=1e-5, msg=name)
        assert (plain.grad is None) == (other.grad is None), name
