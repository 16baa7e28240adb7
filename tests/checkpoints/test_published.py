"""Published checkpoints: read exactly and completely; what does not fit is refused in one
sentence.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from original_files import (
    OPEN,
    full_size_content,
    golden,
    golden_content,
    pretend_original_code,
    refusal,
    save,
)
from safetensors.torch import load_file

import eegdm
from eegdm.checkpoints.published import load_original, original_name, read_original

FILES = ("backbone", "classifier", "classifier_bin16")
PARAMETERS = {
    "backbone.ckpt": 5_931_649,
    "classifier.ckpt": 12_830_599,
    "chbmit_classifier.ckpt": 12_850_434,
}


@pytest.fixture(autouse=True)
def original_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_original_code(monkeypatch)


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(OPEN / "expected.safetensors")


def off(ours: torch.Tensor, golden: torch.Tensor) -> float:
    """Largest error, in the golden tensor's scale."""
    return float((ours - golden).abs().max() / golden.abs().max())


# ----------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("weights", ["ema", "online"])
def test_golden_checkpoints_compute_the_golden_outputs(
    weights: str, expected: dict[str, torch.Tensor]
) -> None:
    with torch.inference_mode():
        backbone = eegdm.load(golden("backbone"), weights=weights)
        velocity = backbone(expected["bk_x"], expected["bk_t"][:, 0], expected["bk_ch"][:, 0])
        assert off(velocity, expected[f"bk_v_{weights}"]) < 1e-5
        classifier = eegdm.load(golden("classifier"), weights=weights)
        assert off(classifier(expected["x22"]), expected[f"logits_{weights}"]) < 1e-5
        seizures = eegdm.load(golden("classifier_bin16"), weights=weights, compat="published")
        assert off(seizures(expected["x16"]), expected[f"logits16_{weights}"]) < 1e-5


def test_compat_is_the_callers_choice(expected: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        right = eegdm.load(golden("classifier_bin16"))
        assert off(right(expected["x16"]), expected["logits16_ema_straight"]) < 1e-5
        slower = eegdm.load(golden("classifier"), compat="published")
        assert (
            off(slower(expected["x22_190hz"], sfreq=190.0), expected["logits_rate095_ema"]) < 1e-5
        )
        backbone = eegdm.load(golden("backbone"), compat="published")
        assert (
            off(
                backbone.tokens(expected["x16"], right.channel_ids),
                expected["tokens16_asis"][:, :, 0],
            )
            < 1e-5
        )


def test_settings_are_taken_over() -> None:
    classifier, seizures = eegdm.load(golden("classifier")), eegdm.load(golden("classifier_bin16"))
    assert classifier.classes == ("SPSW", "GPED", "PLED", "EYEM", "ARTF", "BCKG")
    assert (
        classifier.fusion.config["n_tokens"],
        classifier.fusion.config["depth"],
        classifier.spec.step,
    ) == (4, 2, 1)
    assert (classifier.signal["highpass"], classifier.signal["notch"], classifier.signal["mu"]) == (
        0.1,
        [50.0],
        255.0,
    )
    assert (seizures.classes, seizures.n_times, len(seizures.channels)) == (("seizure",), 2000, 16)
    assert seizures.channel_ids == [*range(8), *range(14, 22)]
    assert (seizures.signal["highpass"], seizures.signal["notch"]) == (0.5, [60.0])
    assert not classifier.training and not seizures.training


@pytest.mark.parametrize("name", FILES)
def test_weights_are_the_files_own_bits(name: str) -> None:
    state = golden_content(name)["state_dict"]
    for weights, prefix in (("ema", "ema.ema_model."), ("online", "model.")):
        for ours, tensor in load_original(golden(name), weights).state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, state[prefix + original_name(ours)].reshape(tensor.shape)), (
                ours
            )
    assert any(
        not torch.equal(state[key], state["ema.ema_" + key])
        for key in state
        if key.startswith("model.")
    )


def test_the_facts_beside_the_model() -> None:
    _, info = read_original(golden("backbone"))
    assert info["diffusion"] == {
        "n_steps": 50,
        "schedule": "squaredcos_cap_v2",
        "beta_start": 1e-4,
        "beta_end": 0.05,
    }
    assert info["signal"]["mu"] == 255.0
    assert info["source"] == {
        "file": "backbone.ckpt",
        "weights": "ema",
        "epoch": 1,
        "global_step": 6,
        "pytorch-lightning_version": "2.6.6",
    }
    _, info = read_original(golden("classifier_bin16"))
    assert info["training"]["criterion_kwargs"]["pos_weight"] == 150.51


def test_a_backbone_of_uncompanded_signals_says_so(tmp_path: Path) -> None:
    content = golden_content("backbone")
    content["hyper_parameters"]["gen_kwargs"].pop("inv_data_trans")
    assert read_original(save(content, tmp_path))[1]["signal"]["mu"] == 0.0


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_full_size_files_load_completely(name: str, shared: Path, tmp_path: Path) -> None:
    content = full_size_content(
        json.loads((shared / "golden" / "base_size_keys.json").read_text())[name]
    )
    state = content["state_dict"]
    loaded = eegdm.load(save(content, tmp_path)).state_dict()
    assert sum(tensor.numel() for tensor in loaded.values()) == PARAMETERS[name]
    averaged = {
        key
        for key, tensor in state.items()
        if key.startswith("ema.ema_model.") and tensor.is_floating_point()
    }
    assert averaged == {"ema.ema_model." + original_name(ours) for ours in loaded}
    assert all(
        torch.equal(tensor.flatten(), state["ema.ema_model." + original_name(ours)].flatten())
        for ours, tensor in loaded.items()
    )
    if name == "backbone.ckpt":
        assert torch.equal(
            loaded["blocks.19.ssm.C"], state["ema.ema_model.layers.19.layer.kernel.C"]
        )
    else:
        assert torch.equal(
            loaded["fusion.stack.7.ff.2.weight"],
            state["ema.ema_model.classifier.stack.layers.15.2.weight"],
        )


# ------------------------------------------------------------------------------ what does not fit


def test_every_key_is_accounted_for(tmp_path: Path) -> None:
    content = golden_content("classifier")
    state = content["state_dict"]
    del state["ema.ema_model.classifier.linear.bias"], state["model.decoder.cls_token"]
    state["model.extractor.model.layers.2.linear_next.bias"] = torch.zeros(16)
    state["ema.step"] = torch.zeros(2)
    refusal(
        save(content, tmp_path),
        "lacks ema.ema_model.classifier.linear.bias, model.decoder.cls_token",
        "has left over model.extractor.model.layers.2.linear_next.bias;",
        "ema.step (2,), not ()",
    )


@pytest.mark.parametrize(
    "key",
    [
        "ema.ema_model.layers.0.layer.D",
        "model.head",
        "ema.initted",
        "ema.online_model.out_layer.2.bias",
    ],
)
def test_one_key_too_few_or_too_many_is_named(key: str, tmp_path: Path) -> None:
    content = golden_content("backbone")
    found = content["state_dict"].pop(key, None)
    if found is None:
        content["state_dict"][key] = torch.zeros(1)
    refusal(
        save(content, tmp_path), f"lacks {key}" if found is not None else f"has left over {key}"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "key", ["ema.ema_model.decoder.cls_token", "model.extractor.model.in_layer.0.bias"]
)
def test_weights_that_are_not_finite_are_named(key: str, value: float, tmp_path: Path) -> None:
    content = golden_content("classifier")
    content["state_dict"][key].view(-1)[-1] = value
    refusal(save(content, tmp_path), "NaN or infinite", key)


def test_other_number_formats_are_refused(tmp_path: Path) -> None:
    content = golden_content("backbone")
    content["state_dict"] = {
        key: value.half() if value.is_floating_point() else value
        for key, value in content["state_dict"].items()
    }
    refusal(save(content, tmp_path), "not float32", "torch.float16")


SWITCHES = [
    ("classifier", "rescale", True),
    ("classifier", "pool_merge", "separate"),
    ("classifier", "multi_query_merge", "cross"),
    ("classifier", "across_pool_stack_struct", "sf"),
    ("classifier", "stack_struct", "cf"),
    ("classifier", "clst_dim", "T"),
    ("classifier", "have_ch_pos_embed", True),
    ("classifier", "classifier_stack_struct", "sssf"),
    ("classifier", "dropout", 0.1),
    ("classifier", "n_ap_clst", 2),
    ("classifier", "invented", 1),
    ("classifier", "n_clst", "many"),
    ("classifier", "n_clst", 5),
    ("classifier", "n_class", 1),
    ("classifier", "start", 1),
    ("classifier", "L", 10**12),
    ("backbone", "local_cond_ch", 1),
    ("backbone", "have_null_class", True),
    ("backbone", "self_gated", True),
    ("backbone", "n_ssm", 4),
    ("backbone", "kernel_mode", "nplr"),
    ("backbone", "n_layer", 4),
    ("backbone", "n_layer", 10**9),
    ("backbone", "d_model", 10**9),
    ("backbone", "d_model", [16]),
]


@pytest.mark.parametrize(("name", "setting", "value"), SWITCHES)
def test_settings_that_are_left_out_or_do_not_fit_are_refused(
    name: str, setting: str, value: Any, tmp_path: Path
) -> None:
    content = golden_content(name)
    settings = OmegaConf.to_container(content["hyper_parameters"]["model_kwargs"])
    content["hyper_parameters"]["model_kwargs"] = OmegaConf.create(settings | {setting: value})
    path, start = save(content, tmp_path), time.perf_counter()
    message = refusal(path)
    assert time.perf_counter() - start < 20
    if setting not in ("n_clst", "n_layer", "d_model", "start", "L"):
        assert setting in message


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    content = golden_content("classifier_bin16")
    content["state_dict"]["model.extractor.cond"][8:] = 0
    refusal(save(content, tmp_path), "model.extractor.cond")
    content = golden_content("classifier_bin16")
    key = "ema.online_model.classifier.linear.bias"
    content["state_dict"][key] = content["state_dict"][key] + 1
    refusal(save(content, tmp_path), "two unequal copies", weights="online")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weight": torch.zeros(3)}, "it has no state_dict"),
        ({"state_dict": {"weight": torch.zeros(3)}}, "it has no hyper_parameters"),
        (
            {"state_dict": {"weight": torch.zeros(3)}, "hyper_parameters": {"lr": 1e-3}},
            "its settings lack model_kwargs, noise_sch_kwargs",
        ),
        (
            {"state_dict": {"weight": "no tensor"}, "hyper_parameters": {}},
            "something else than named tensors",
        ),
        (
            {
                "state_dict": {},
                "hyper_parameters": {
                    "diffusion_model_checkpoint": "",
                    "model_kwargs": None,
                    "is_binary": False,
                },
            },
            "understood",
        ),
        (torch.zeros(3), "it has no state_dict"),
    ],
)
def test_other_peoples_checkpoints_are_refused(content: Any, words: str, tmp_path: Path) -> None:
    refusal(save(content, tmp_path), words)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(eegdm.UserError, match="ema, online"):
        eegdm.load(golden("backbone"), weights="best")
    with pytest.raises(eegdm.UserError, match="publshed"):
        eegdm.load(golden("backbone"), compat="publshed")


# ---------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_files_are_refused(share: float, tmp_path: Path) -> None:
    whole = golden("backbone").read_bytes()
    (tmp_path / "x.ckpt").write_bytes(whole[: int(share * len(whole))])
    refusal(tmp_path / "x.ckpt", "truncated" if share else "is not a torch checkpoint")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    whole = bytearray(golden("backbone").read_bytes())
    place = whole.index(
        golden_content("backbone")["state_dict"]["model.layers.0.layer.kernel.C"].numpy().tobytes()
    )
    whole[place] ^= 1
    (tmp_path / "x.ckpt").write_bytes(whole)
    refusal(tmp_path / "x.ckpt", "damaged")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    torch.save(
        golden_content("backbone"), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False
    )
    refusal(tmp_path / "old.ckpt", "a zip archive is expected")
    (tmp_path / "text.ckpt").write_text("404: not found")
    refusal(tmp_path / "text.ckpt", "is not a torch checkpoint")
    refusal(tmp_path / "absent.ckpt", "no such file")
