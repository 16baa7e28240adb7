"""Models as folders and on a hub: the same bits come back; what does not fit is refused before it
costs memory.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from original_files import golden, refusal
from safetensors.torch import load_file, save_file

import eegdm
from eegdm.checkpoints.load import load_backbone
from eegdm.models.backbone import SSMDP
from eegdm.models.eegdm import EEGDM
from eegdm.models.fusion import LatentFusionTransformer
from hub import WARNED, Hub, ask

SIZES = {"d_model": 8, "n_blocks": 2, "d_state": 4, "d_cond": 8, "d_embed": 4}
FUSION = {"n_tokens": 2, "n_heads": 2, "ff": 2, "depth": 1}


def small_models() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [
        SSMDP(**SIZES),
        LatentFusionTransformer(n_blocks=2, n_pools=3, d_model=8, n_classes=2, **FUSION),
        LatentFusionTransformer(
            n_blocks=2, n_pools=3, d_model=8, n_classes=2, kind="none", **FUSION
        ),
        EEGDM(
            SIZES,
            FUSION,
            {"query": ["gate", "filter"], "pool": ["std", "mean"], "last_block": 1},
            classes=["a", "b"],
            signal={"mu": 255.0},
            decision={"threshold": 0.4},
            compat="published",
        ),
    ]


def same_bits(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(
        torch.equal(mine[k], other[k]) and mine[k].dtype == other[k].dtype for k in mine
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small saved classifier."""
    return small_models()[3].save_pretrained(tmp_path / "model")


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    about = json.loads((folder / "config.json").read_text())
    change(about)
    (folder / "config.json").write_text(json.dumps(about))


# ------------------------------------------------------------------------------- saved and loaded


@pytest.mark.parametrize("index", range(4))
def test_a_round_trip_keeps_bits_and_settings(index: int, tmp_path: Path) -> None:
    model = small_models()[index]
    out = model.save_pretrained(tmp_path / "model", info={"diffusion": {"n_steps": 50}})
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    about = json.loads((out / "config.json").read_text())
    assert (about["format"], about["model"], about["eegdm"]) == (
        1,
        type(model).__name__,
        eegdm.__version__,
    )
    assert about["diffusion"] == {"n_steps": 50}
    for found in (type(model).from_pretrained(out), eegdm.load(out), eegdm.load(str(out))):
        assert type(found) is type(model) and found.config == model.config
        assert same_bits(found, model) and not found.training
        assert all(parameter.requires_grad for parameter in found.parameters())


def test_a_loaded_model_computes_and_trains_like_the_saved_one(folder: Path) -> None:
    model, found = small_models()[3].eval(), eegdm.load(folder)
    x = torch.randn(2, 22, 1000, generator=torch.Generator().manual_seed(1))
    logits = found(x)
    assert torch.equal(logits, model(x))
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in found.fusion.parameters())


@pytest.mark.parametrize("name", ["backbone", "classifier", "classifier_bin16"])
def test_published_checkpoint_to_folder_and_back_keeps_the_bits(name: str, tmp_path: Path) -> None:
    out = eegdm.convert(golden(name), tmp_path / "out")
    for weights in ("ema", "online"):
        again = eegdm.load(golden(name), weights=weights).save_pretrained(tmp_path / weights)
        assert same_bits(eegdm.load(again), eegdm.load(golden(name), weights=weights))
    assert same_bits(eegdm.load(out), eegdm.load(golden(name)))
    assert eegdm.load(out).config == eegdm.load(golden(name)).config
    with pytest.raises(eegdm.UserError, match="not an empty folder"):
        eegdm.convert(golden(name), out)


def test_compat_can_be_chosen_for_a_folder_too(tmp_path: Path) -> None:
    out = eegdm.convert(golden("classifier_bin16"), tmp_path / "out")
    assert eegdm.load(out).compat is None
    assert eegdm.load(out, compat="published").compat == "published"
    kept = eegdm.convert(golden("classifier_bin16"), tmp_path / "kept", compat="published")
    assert eegdm.load(kept).compat == "published"


def test_the_card_states_data_recipe_metrics_licence_and_limits(tmp_path: Path) -> None:
    info = {
        "data": "TUEV",
        "recipe": {"seed": 0},
        "metrics": {"kappa": 0.74},
        "licence": "CC BY 4.0",
        "license": "cc-by-4.0",
    }
    card = (small_models()[3].save_pretrained(tmp_path / "a", info=info) / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    front = yaml.safe_load(front)
    assert (
        front["license"] == "cc-by-4.0"
        and front["library_name"] == "eegdm"
        and "eeg" in front["tags"]
    )
    assert re.findall("^## (.*)$", body, re.MULTILINE) == [
        "Data",
        "Recipe",
        "Metrics",
        "Licence",
        "Limits",
        "Settings",
    ]
    for text in (
        "TUEV",
        "- seed: 0",
        "- kappa: 0.74",
        "CC BY 4.0",
        "not a medical device",
        '"n_tokens": 2',
    ):
        assert text in body
    assert (
        small_models()[0].save_pretrained(tmp_path / "b", card="mine") / "README.md"
    ).read_text() == "mine"
    assert (small_models()[0].save_pretrained(tmp_path / "c") / "README.md").read_text().count(
        "Not stated"
    ) == 3


def test_what_must_not_be_saved_is_refused(tmp_path: Path) -> None:
    model = small_models()[0]
    with pytest.raises(eegdm.UserError, match="info can't name config"):
        model.save_pretrained(tmp_path / "a", info={"config": {}})
    model.head[0].bias.data[0] = float("nan")
    with pytest.raises(eegdm.UserError, match=r"NaN or infinite: head\.0\.bias"):
        model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "config.json").exists()


# ------------------------------------------------------------------------------ what does not fit


CONFIGS = {
    "newer format": (lambda c: c.update(format=2), "format 2"),
    "no format": (lambda c: c.pop("format"), "format and config are missing"),
    "no settings": (lambda c: c.update(config=[1]), "format and config are missing"),
    "other model": (lambda c: c.update(model="os.system"), "not EEGDM, Latent"),
    "model is a list": (lambda c: c.update(model=["EEGDM"]), "not EEGDM, Latent"),
    "unknown setting": (
        lambda c: c["config"].update(__init__=1),
        "unknown settings for EEGDM: __init__",
    ),
    "unknown setting inside": (lambda c: c["config"]["backbone"].update(width=1), "width"),
    "unknown token setting": (lambda c: c["config"]["tokens"].update(width=1), "width"),
    "wide": (lambda c: c["config"]["backbone"].update(d_model=10**9), "d_model=1000000000"),
    "wide, within limits": (
        lambda c: c["config"]["backbone"].update(d_model=2**19),
        "fusion has d_model=8",
    ),
    "other width": (
        lambda c: (
            c["config"]["backbone"].update(d_model=16),
            c["config"]["fusion"].update(d_model=16),
        ),
        "has other shapes",
    ),
    "deep": (lambda c: c["config"]["backbone"].update(n_blocks=10**7), "n_blocks=10000000"),
    "deep stack": (lambda c: c["config"]["fusion"].update(depth=10**6), "depth=1000000"),
    "one more": (lambda c: c["config"]["fusion"].update(depth=2), "lacks fusion.stack.1.attn"),
    "negative": (lambda c: c["config"]["backbone"].update(d_model=-4), "make no EEGDM"),
    "not a number": (lambda c: c["config"].update(sfreq=float("nan")), "sfreq=nan"),
    "slow rate": (lambda c: c["config"].update(sfreq=1e-12), "sfreq=1e-12"),
    "text": (lambda c: c["config"]["backbone"].update(d_model="8"), "make no EEGDM"),
    "nothing": (lambda c: c["config"]["backbone"].update(d_model=None), "make no EEGDM"),
    "heads": (lambda c: c["config"]["fusion"].update(n_heads=3), "n_heads=3"),
    "other channel": (lambda c: c["config"].update(channels=["FP1-XX"]), "FP1-XX"),
    "fewer classes": (
        lambda c: (c["config"].update(classes=["a"]), c["config"]["fusion"].update(n_classes=1)),
        "fusion.out.weight (2, 8), not (1, 8)",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_does_not_fit_is_refused_at_once(case: str, folder: Path) -> None:
    change, words = CONFIGS[case]
    change_config(folder, change)
    start = time.perf_counter()
    assert words in refusal(folder)
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", "[" * 100_000, '{"format": 1, "config": ' + "9" * 5000 + "}", "\ud800"],
)
def test_a_config_that_is_no_configuration_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    refusal(folder)


def test_a_huge_config_is_refused_unread(folder: Path) -> None:
    with open(folder / "config.json", "wb") as stream:
        stream.truncate(2**40)
    refusal(folder, "larger than 1 MiB")


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    bias = "fusion.out.bias"
    for changed, words in (
        ({k: v for k, v in tensors.items() if k != bias}, f"lacks {bias}"),
        ({**tensors, "extra": torch.zeros(1)}, "has left over extra"),
        ({**tensors, bias: torch.zeros(3)}, f"{bias} (3,), not (2,)"),
        ({**tensors, bias: torch.tensor([0.0, float("nan")])}, f"NaN or infinite: {bias}"),
        ({**tensors, bias: torch.zeros(2, dtype=torch.float16)}, f"not float32: {bias}"),
    ):
        save_file(changed, file)
        assert words in refusal(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[:5],
        lambda b: b"",
        lambda b: b"\xff" * 8 + b[8:],
        lambda b: b[:8] + b"x" + b[9:],
    ],
)
def test_damaged_weights_are_refused(damage: Callable[[bytes], bytes], folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    refusal(folder, "model.safetensors")


def test_another_class_is_refused_with_both_names(folder: Path) -> None:
    with pytest.raises(eegdm.UserError, match="class 'EEGDM', not SSMDP"):
        SSMDP.from_pretrained(folder)
    with pytest.raises(eegdm.UserError, match="eegdm convert"):
        SSMDP.from_pretrained(golden("backbone"))
    refusal(folder, "one set of weights", weights="online")
    out = small_models()[1].save_pretrained(folder / "lft")
    refusal(out, "has no compat setting", compat="published")


# ---------------------------------------------------------------------------------------- finding


def test_a_folder_with_checkpoints_asks_which(tmp_path: Path) -> None:
    refusal(tmp_path, "holds no model")
    (tmp_path / "a.ckpt").symlink_to("b.ckpt")
    (tmp_path / "b.ckpt").write_bytes(golden("backbone").read_bytes())
    refusal(tmp_path, f"choose one: {tmp_path / 'a.ckpt'}, {tmp_path / 'b.ckpt'}")
    assert isinstance(eegdm.load(tmp_path, filename="a.ckpt"), SSMDP)
    (tmp_path / "a.ckpt").unlink()
    assert isinstance(eegdm.load(tmp_path), SSMDP)
    refusal(tmp_path, "has no c.ckpt; it holds b.ckpt", filename="c.ckpt")


def test_what_lies_outside_the_folder_is_not_read(folder: Path, tmp_path: Path) -> None:
    for name in ("../x.ckpt", "/etc/passwd"):
        with pytest.raises(eegdm.UserError, match="leads out of the folder"):
            eegdm.load(folder, filename=name)
    moved = (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(moved)
    refusal(folder, "a link to a place outside")
    (folder / "model.safetensors").unlink()
    refusal(folder, "neither config.json with model.safetensors nor")


def test_the_hubs_own_links_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "blobs").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "blobs" / "0")
    snapshot = folder.rename(tmp_path / "snapshots" / "main")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0")
    assert same_bits(eegdm.load(snapshot), small_models()[3])


@pytest.mark.parametrize(
    "name", ["nothing here", "no/such/folder", "runs/x.ckpt", "../x", "backbone"]
)
def test_what_is_neither_here_nor_a_hub_id_is_refused(name: str) -> None:
    with pytest.raises(
        eegdm.UserError, match="no such file or folder; a model on the hub is named owner/name"
    ):
        eegdm.load(name)


def test_one_file_of_a_model_points_to_its_folder(folder: Path) -> None:
    refusal(folder / "config.json", f"give the folder, {folder}")
    refusal(folder / "config.json", "is a file", filename="x")
    refusal(folder, f"name {folder} without it", filename="model.safetensors")


def test_what_lies_on_the_disk_has_no_revisions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is never looked for on the hub, however it is named."""
    refusal(folder, "leave revision=v1 out", revision="v1")
    with pytest.raises(eegdm.UserError, match="leave revision=v1 out"):
        eegdm.load("mini", revision="v1")
    (tmp_path / "lab").mkdir()
    folder.rename(tmp_path / "lab" / "ours")
    monkeypatch.chdir(tmp_path)
    assert same_bits(eegdm.load("lab/ours"), small_models()[3])
    for name in ("lab/ours@v1", "lab/ours:a.ckpt", "lab/ours@v1:a.ckpt"):
        with pytest.raises(eegdm.UserError, match=f"{name}: lab/ours lies on this disk"):
            eegdm.load(name)


# -------------------------------------------------------------------------------------------- hub


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    ours = {path.name: path.read_bytes() for path in folder.iterdir()}
    published = {f"{name}.ckpt": golden(name).read_bytes() for name in ("backbone", "classifier")}
    found = Hub(
        {
            "jhpuah/eegdm": {
                "main": {"README.md": b"", **published},
                "v1": {"classifier.ckpt": golden("classifier_bin16").read_bytes()},
                "refs/pr/1": {"backbone.ckpt": published["backbone.ckpt"]},
            },
            "lab/ours": {"main": ours},
            "lab/empty": {"main": {"README.md": b""}},
        }
    )
    yield found
    found.close()


def said(model: torch.nn.Module) -> str:
    return (
        f"{type(model).__name__}"
        f" {float(sum(p.double().sum() for p in model.state_dict().values()))}"
    )


def test_models_come_from_the_hub_and_then_from_its_cache(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    backbone, classifier, first, ours = (
        said(eegdm.load(source))
        for source in (
            golden("backbone"),
            golden("classifier"),
            golden("classifier_bin16"),
            folder,
        )
    )
    online = said(eegdm.load(golden("backbone"), weights="online"))
    asks_which = "choose one: jhpuah/eegdm:backbone.ckpt, jhpuah/eegdm:classifier.ckpt"
    requests: list[tuple[dict[str, str], str]] = [
        ({"path_or_hub_id": "jhpuah/eegdm", "filename": "classifier.ckpt"}, classifier),
        ({"path_or_hub_id": "jhpuah/eegdm:classifier.ckpt"}, classifier),
        ({"path_or_hub_id": "jhpuah/eegdm:backbone.ckpt"}, backbone),
        ({"path_or_hub_id": "jhpuah/eegdm:backbone.ckpt", "weights": "online"}, online),
        ({"path_or_hub_id": "jhpuah/eegdm@main:classifier.ckpt"}, classifier),
        ({"path_or_hub_id": "jhpuah/eegdm"}, asks_which),
        ({"path_or_hub_id": "jhpuah/eegdm", "revision": "v1"}, first),
        ({"path_or_hub_id": "jhpuah/eegdm@v1"}, first),
        ({"path_or_hub_id": "jhpuah/eegdm@v1:classifier.ckpt"}, first),
        ({"path_or_hub_id": "jhpuah/eegdm:classifier.ckpt", "revision": "v1"}, first),
        ({"path_or_hub_id": "jhpuah/eegdm@v1", "filename": "classifier.ckpt"}, first),
        ({"path_or_hub_id": "jhpuah/eegdm@refs/pr/1:backbone.ckpt"}, backbone),
        ({"path_or_hub_id": "lab/ours"}, ours),
        ({"path_or_hub_id": "lab/ours@main"}, ours),
        ({"path_or_hub_id": str(folder)}, ours),
    ]
    holds = "it holds README.md, backbone.ckpt, classifier.ckpt"
    refused = [
        ({"path_or_hub_id": "lab/empty"}, "holds no model"),
        (
            {"path_or_hub_id": "lab/absent"},
            "lab/absent: is neither on this disk nor available from the hub",
        ),
        (
            {"path_or_hub_id": "lab/absent@v1:a.ckpt"},
            "lab/absent@v1: is neither on this disk nor available from the hub",
        ),
        (
            {"path_or_hub_id": "jhpuah/eegdm", "filename": "other.ckpt"},
            f"jhpuah/eegdm: has no other.ckpt; {holds}",
        ),
        ({"path_or_hub_id": "jhpuah/eegdm:other.ckpt"}, f"has no other.ckpt; {holds}"),
        (
            {"path_or_hub_id": "jhpuah/eegdm@v1:backbone.ckpt"},
            "jhpuah/eegdm@v1: has no backbone.ckpt; it holds classifier.ckpt",
        ),
        ({"path_or_hub_id": "jhpuah/eegdm@v9:classifier.ckpt"}, "jhpuah/eegdm@v9: is neither"),
        (
            {"path_or_hub_id": "jhpuah/eegdm:a.ckpt", "filename": "a.ckpt"},
            "jhpuah/eegdm:a.ckpt: names 'a.ckpt' itself; leave out filename=a.ckpt",
        ),
        (
            {"path_or_hub_id": "jhpuah/eegdm@v1", "revision": "main"},
            "jhpuah/eegdm@v1: names 'v1' itself; leave out revision=main",
        ),
        ({"path_or_hub_id": "jhpuah/eegdm:../a.ckpt"}, "leads out of the folder"),
        ({"path_or_hub_id": "lab/ours:model.safetensors"}, "name lab/ours without it"),
        ({"path_or_hub_id": "jhpuah/eegdm:"}, "no such file or folder"),
        ({"path_or_hub_id": "jhpuah/eegdm@"}, "no such file or folder"),
        ({"path_or_hub_id": "jhpuah/eegdm.ckpt:a.ckpt"}, "no such file or folder"),
    ]
    answers = ask(hub, cache, [request for request, _ in requests + refused])
    for (request, expected), answer in zip(requests + refused, answers, strict=True):
        assert expected in answer, request
    assert any("/resolve/v1/" in path for path in hub.asked) and not any(
        str(folder) in path for path in hub.asked
    )
    n_asked = len(hub.asked)
    offline = ask(hub, cache, [request for request, _ in requests], HF_HUB_OFFLINE="1")
    assert len(hub.asked) == n_asked
    for (request, expected), answer in zip(requests, offline, strict=True):
        assert expected in answer, request


def test_a_backbone_says_how_it_is_read_wherever_it_comes_from(tmp_path: Path) -> None:
    classifier = small_models()[3]
    assert isinstance(classifier, EEGDM)
    classifier.signal = {"mu": 100.0}
    folder = classifier.save_pretrained(tmp_path / "classifier")
    for source in (classifier, folder, str(folder)):
        backbone = load_backbone(source)
        assert same_bits(backbone, classifier.backbone)
        assert backbone.info["signal"] == {"mu": 100.0}
        assert backbone.info["diffusion"]["n_steps"] == classifier.spec.n_steps
    assert classifier.backbone.info == {}
    alone = classifier.backbone.save_pretrained(tmp_path / "alone", info={"signal": {"mu": 0.0}})
    assert load_backbone(alone).info["signal"] == {"mu": 0.0}
    assert load_backbone(classifier.backbone) is classifier.backbone


OURS = [
    {"path_or_hub_id": "lab/ours"},
    {"path_or_hub_id": "jhpuah/eegdm", "filename": "classifier.ckpt"},
    {"path_or_hub_id": "jhpuah/eegdm", "revision": "v1"},
    {"path_or_hub_id": "jhpuah/eegdm:classifier.ckpt"},
    {"path_or_hub_id": "jhpuah/eegdm@v1:classifier.ckpt"},
]


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.ci
def test_a_hub_that_fails_is_replaced_by_its_cache(
    hub: Hub, folder: Path, tmp_path: Path, status: int
) -> None:
    """With one line; a hub that answers (no such repository, no access) is believed."""
    expected = ask(hub, tmp_path, OURS)
    assert expected[0] == said(eegdm.load(folder)) and "refused" not in "".join(expected)
    hub.failing = {"/": status}
    assert ask(hub, tmp_path, OURS) == [line for each in expected for line in (WARNED, each)]
    hub.failing = {"/": 401}
    assert all("refused" in line and "401" in line for line in ask(hub, tmp_path, OURS))
    hub.failing = {"/lab": status, "/jhpuah": status}  # lists files, but serves none
    assert ask(hub, tmp_path, OURS) == expected


@pytest.mark.parametrize("lacking", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["offline", "503"])
@pytest.mark.ci
def test_half_a_cache_says_what_is_missing_and_what_to_do(
    hub: Hub, tmp_path: Path, lacking: str, how: str
) -> None:
    complete = ask(hub, tmp_path, OURS)
    (cached,) = tmp_path.glob(f"hub/models--lab--ours/snapshots/*/{lacking}")
    cached.unlink()
    hub.failing = {"/": 503} if how == "503" else {}
    offline = {"HF_HUB_OFFLINE": "1"} if how == "offline" else {}
    kept = "config.json" if lacking == "model.safetensors" else "model.safetensors"
    answer = ask(hub, tmp_path, OURS[:1], **offline)[-1]
    assert f"refused lab/ours: the cache lacks {lacking}; it holds {kept}, and the hub" in answer
    assert answer.endswith(
        "run this again when the hub can be reached, which fetches what is missing"
    )
    hub.failing = {}
    assert ask(hub, tmp_path, OURS) == complete


def test_files_that_were_never_fetched_are_named(hub: Hub, tmp_path: Path) -> None:
    ask(hub, tmp_path, OURS[1:2])
    requests = [
        {"path_or_hub_id": "jhpuah/eegdm:backbone.ckpt"},
        {"path_or_hub_id": "jhpuah/eegdm@v1:classifier.ckpt"},
        *OURS[:1],
    ]
    half, revision, empty = ask(hub, tmp_path, requests, HF_HUB_OFFLINE="1")
    assert "refused jhpuah/eegdm: the cache lacks backbone.ckpt; it holds classifier.ckpt" in half
    for answer, name in ((revision, "jhpuah/eegdm@v1"), (empty, "lab/ours")):
        assert (
            f"refused {name}: is neither on this disk nor available from the hub (Offline" in answer
        )


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.ci
def test_a_busy_hub_and_an_empty_cache_are_one_sentence(
    hub: Hub, tmp_path: Path, status: int
) -> None:
    """Whether the hub fails at once, or lists files and serves none."""
    requests = [OURS[0], OURS[3], OURS[4]]
    for beginning, names in (
        ("/", ("lab/ours", "jhpuah/eegdm", "jhpuah/eegdm@v1")),
        ("/lab", ("lab/ours:config.json",)),
    ):
        hub.failing = {beginning: status}
        for name, answer in zip(names, ask(hub, tmp_path, requests[: len(names)]), strict=True):
            assert f"refused {name}: is neither on this disk nor available from the hub" in answer
            assert str(status) in answer or beginning == "/lab"
            assert answer.endswith("; run this again when the hub can be reached")
