"""Networks of timm and Hugging Face: exported once, and used without torch."""

from __future__ import annotations

import importlib.util
import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.embedding.extractor import converted_files, load_extractor
from features.errors import ExtractorError, WeightsError
from features.networks.imported.commands import networks
from features.networks.imported.lookup import find_network
from features.networks.imported.torch_networks import exported_network, from_hub
from tests.features.networks.imported.onnx_files import DESCRIPTION, SIDE, expected_map, save, tiny

MISSING = [name for name in ("timm", "torch") if importlib.util.find_spec(name) is None]
needs_timm = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} missing: pip install '.[timm]'"
)
# Stands for the process with torch: writes the file that it is told to, or says what went wrong.
STAND_IN = """#!{python}
import json, shutil, sys
request = json.load(sys.stdin)
print(json.dumps({{"step": "fetch"}}))
if {failed!r}:
    print(json.dumps({{"failed": {failed!r}}}))
    sys.exit(1)
shutil.copyfile({onnx!r}, request["target"])
print(json.dumps({{"description": {text!r}, "unsaid": "", "difference": 0.0, "libraries": {{}},
                   "outputs": [["map", [1, 5, 8, 8]]]}}))
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))


def there(monkeypatch: pytest.MonkeyPatch, *, torch: bool) -> None:
    """Let timm and torch be installed, or not."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: (
            find("json" if torch else "no_such_module")
            if name in {"timm", "torch", "torchvision", "transformers"}
            else find(name, package)
        ),
    )


def stand_in(tmp_path: Path, failed: str = "") -> str:
    onnx = save(tiny(), tmp_path / "made.onnx", None)
    text = DESCRIPTION.replace('"tiny"', '"timm-tiny.in1k"')
    script = tmp_path / "python"
    script.write_text(
        STAND_IN.format(python=sys.executable, failed=failed, onnx=str(onnx), text=text)
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def test_names_of_hubs_are_told_from_functions() -> None:
    assert from_hub("timm:resnet18.a1_in1k")
    assert from_hub("hf:facebook/dinov2-small")
    assert not from_hub("timm")
    assert not from_hub("mine.timm:network")


@pytest.mark.parametrize("name", ["timm:", "timm:../x", "hf:a/b/c", "hf:a b", "hf:/etc", "timm:-x"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ExtractorError, match="expected a name such as"):
        find_network(name)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, torch=False)
    with pytest.raises(ExtractorError, match=r"timm, torch are missing .*\[timm\].*FILE\.onnx"):
        find_network("timm:resnet18")
    done = CliRunner().invoke(networks, ["check", "hf:facebook/dinov2-small"])
    assert "transformers, torch, torchvision are missing" in str(done.exception)


def test_weights_that_are_not_there_are_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected a file that ends in \.safetensors"):
        find_network("timm:resnet18", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(WeightsError, match=r"expected a folder with config\.json"):
        find_network("hf:a/b", weights=str(tmp_path))


def test_weights_that_can_not_be_fetched_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(monkeypatch, torch=True)
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, "ConnectionError: no route"))
    with pytest.raises(WeightsError, match=r"can't be fetched .*no route.*FILE\.safetensors"):
        find_network("timm:resnet18")
    assert not list((tmp_path / "cache" / "networks").iterdir())


def test_a_network_is_exported_once_and_then_needs_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as during:
        there(during, torch=True)
        during.setattr(sys, "executable", stand_in(tmp_path))
        made = exported_network("timm:tiny", "untrained")
        during.setattr(sys, "executable", "/nonexistent")
        assert exported_network("timm:tiny", "untrained") == made
        with pytest.raises(ExtractorError, match="can't be kept in"):
            exported_network("timm:tiny")
    there(monkeypatch, torch=False)
    network, weights = find_network("timm:tiny", weights="untrained")
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    # Random weights are marked, and yet carried along: no seed would give them again.
    assert extractor.spec.untrained
    assert not extractor.spec.seeded
    assert extractor.spec.network == "timm-tiny.in1k"
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    expected = expected_map(pixels).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor.embed(pixels), expected, rtol=1e-4, atol=1e-4)
    assert converted_files(extractor.spec, made.path) is not None


@needs_timm
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("test_resnet", ["map"]),
        ("test_convnext", ["features", "map"]),
        ("test_vit", ["tokens.class", "tokens.patches"]),
    ],
)
def test_a_network_of_timm_gives_what_torch_gives(name: str, layers: list[str]) -> None:
    import timm
    import torch

    network, path = find_network(f"timm:{name}", weights="untrained")
    assert path is not None
    assert json.loads(path.with_name("about.json").read_text())["difference"] < 1e-3
    extractor = load_extractor(network, path, recipe="fast", precision="fp32")
    assert list(extractor.spec.layers) == layers
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    model.reset_classifier(0)
    told = timm.data.resolve_model_data_config(model)
    side = told["input_size"][-1]
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    mean, deviation = (np.float32(told[key]) for key in ("mean", "std"))
    scaled = ((pixels / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(scaled)).numpy()
    found = extractor.embed(pixels)[:, : expected.shape[1]]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("transformers", "torch")),
    reason="transformers or torch missing: pip install '.[hf]'",
)
def test_a_network_of_hugging_face_gives_what_torch_gives(tmp_path: Path) -> None:
    import torch
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    model = ViTModel(ViTConfig(**sizes, intermediate_size=96, image_size=64)).eval()
    folder = tmp_path / "vit"
    model.save_pretrained(folder)
    told = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 64, "width": 64},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    network, path = find_network("hf:me/vit", weights=str(folder))
    extractor = load_extractor(network, path or "", recipe="fast", precision="fp32")
    assert network.name == "hf-me-vit"
    assert list(extractor.spec.layers) == ["tokens.class", "tokens.patches"]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    scaled = (pixels / 255 - told["image_mean"]) / told["image_std"]
    with torch.no_grad():
        given = torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
        tokens = model(pixel_values=given).last_hidden_state.numpy()
    expected = np.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(extractor.embed(pixels), expected, rtol=1e-3, atol=1e-4)


@needs_timm
def test_weights_of_a_file_fit_whole_or_not_at_all(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    path = tmp_path / "mine.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), path)
    network, _ = find_network("timm:test_resnet", weights=str(path))
    assert network.name == "timm-test_resnet"
    assert network.trained_on == ""
    with pytest.raises(WeightsError, match=r"are not those of test_vit: \d+ of its tensors"):
        find_network("timm:test_vit", weights=str(path))
    beside = {"architecture": "test_resnet", "pretrained_cfg": {"crop_pct": 0.5}}
    (tmp_path / "config.json").write_text(json.dumps(beside))
    network, _ = find_network("timm:test_resnet", weights=str(path))
    assert network.recipes["fast"].views == ("centre0.5:identity",)
    with pytest.raises(WeightsError, match="the weights are of test_resnet, and not of test_vit"):
        find_network("timm:test_vit", weights=str(path))
    told = CliRunner().invoke(networks, ["check", "timm:test_resnet"]).output
    assert "reads  map of map" in told
    assert "trained on ImageNet-1k" in told
