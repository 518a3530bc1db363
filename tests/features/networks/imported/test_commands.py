"""`python -m features networks`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.embedding.extractor import load_extractor
from features.errors import ExtractorError
from features.networks.imported.commands import networks
from features.networks.imported.description import from_values, tomllib
from features.networks.imported.lookup import find_network
from features.networks.registry import NETWORKS
from tests.conftest import Run
from tests.features.networks.imported.onnx_files import DESCRIPTION, save, tiny, tokens

LITE = """
name = "efficientnet_lite0"
trained_on = "ImageNet-1k"

[input]
name = "image"
size = 224
range = [0, 255]
mean = 127
deviation = 128

[output]
names = ["map"]
"""


def test_every_network_is_listed_with_what_matters() -> None:
    told = CliRunner().invoke(networks, []).output
    lines = {line.split()[0]: line.split() for line in told.splitlines() if line}
    assert set(NETWORKS) <= set(lines)
    assert lines["vgg16"] == ["vgg16", "224", "512", "59", "ImageNet-1k", "CC-BY-4.0", "no"]
    listed = json.loads(CliRunner().invoke(networks, ["--json"]).output)
    by_name = {each["network"]: each for each in listed}
    assert by_name["efficientnet_b0"]["length"] == 1280
    assert by_name["inception_v3"]["layers"]["mixed8"] == 1280


def test_a_file_without_a_description_gets_one_to_complete(run: Run, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "tiny net.onnx", None)
    done = run("-m", "features", "networks", "check", path)
    assert done.returncode == 1
    assert "takes  image (any x 3 x 32 x 32, f32)\ngives  map (any x 5 x 8 x 8, f32)" in done.stdout
    assert done.stderr.startswith(f"error: {path} has no description: write {tmp_path}")
    assert "Traceback" not in done.stderr
    text = done.stdout[done.stdout.index("name = ") :]
    assert 'name = "tiny_net"' in text
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    completed = text.replace("range = ?", "range = [0, 1]").replace("= ?", "= 0.5")
    assert from_values(tomllib.loads(completed)).outputs == ("map",)


def test_a_check_says_what_would_be_done(tmp_path: Path) -> None:
    path = save(tokens(), tmp_path / "a.onnx", DESCRIPTION + '[output]\ntokens = "both"\n')
    told = CliRunner().invoke(networks, ["check", str(path)]).output
    assert "reads  class of tokens (5), patches of tokens (5)" in told
    assert "(pixel / 255 - (0.5, 0.4, 0.3)) / (0.2, 0.25, 0.5); the whole image, squashed" in told
    assert "where it looked can be shown, from tokens.patches" in told
    path.with_suffix(".toml").write_text(DESCRIPTION + '[output]\ntokens = "class"\n')
    told = CliRunner().invoke(networks, ["check", str(path)]).output
    assert "where it looked can't be shown" in told
    done = CliRunner().invoke(networks, ["check", str(tmp_path / "b.onnx")])
    assert isinstance(done.exception, ExtractorError)


@pytest.mark.real_data
def test_a_real_file_gives_what_its_own_pooled_output_is(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    path = real_data / "weights" / "efficientnet_lite0.onnx"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    found = []
    for name in ("map", "features"):
        about = tmp_path / f"{name}.toml"
        about.write_text(LITE.replace("map", name))
        network, weights = find_network(str(path), about)
        extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
        found.append(extractor.embed(pixels))
    assert found[0].shape == (2, 1280)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    scaled = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
    expected = np.concatenate([compiled(each[np.newaxis])["features"] for each in scaled])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
