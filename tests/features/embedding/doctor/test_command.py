from __future__ import annotations

import configparser
import functools
import importlib.util
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.embedding.doctor import checkup, command, machine, stages
from features.embedding.doctor.command import doctor
from features.embedding.doctor.stages import measure
from features.networks.registry import NETWORKS
from tests.conftest import ROOT, Run
from tests.features.networks.imported.onnx_files import save, tiny


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


def ask(*words: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(doctor, ["--json", *words])
    return done.exit_code, json.loads(done.stdout)


def found(told: dict[str, object], name: str) -> dict[str, str]:
    (one,) = [each for each in told["findings"] if each["name"] == name]
    return one


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: None if name in modules else find(name, package),
    )


def test_the_command_tells_what_is_there_and_how_to_get_what_is_not(
    run: Run, tmp_path: Path
) -> None:
    done = run("-m", "features", "doctor", env={**os.environ, "KERAS_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "nothing is missing to extract embeddings" in done.stdout
    assert f"put the file that lies at {NETWORKS['inception_v3'].origin.url}" in done.stdout
    assert str(tmp_path / "models") in done.stdout
    assert "openvino in " in done.stdout


def test_weights_that_are_there_are_found(no_weights: Path) -> None:
    assert found(ask()[1], "inception_v3")["state"] == "optional"
    file = no_weights / NETWORKS["inception_v3"].origin.file
    no_weights.mkdir(parents=True)
    file.write_bytes(bytes(3 << 20))
    weights = found(ask()[1], "inception_v3")
    assert weights["state"] == "ok"
    assert weights["value"] == f"ImageNet's, 3 MiB, at {file}"


def test_an_extra_that_is_missing_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pylibjpeg", "nncf")
    code, told = ask()
    assert code == 0
    assert found(told, "DICOM")["value"] == "lacks pylibjpeg"
    assert found(told, "DICOM")["mend"] == "pip install -e '.[dicom]'"
    assert found(told, "--precision int8")["state"] == "optional"
    assert found(told, "tables in .xlsx")["state"] in {"ok", "optional"}


def test_without_keras_nothing_can_be_extracted(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "keras")
    code, told = ask()
    assert code == 1
    assert not told["ok"]
    assert found(told, "Keras")["state"] == "missing"
    assert "pip install keras tensorflow" in found(told, "Keras")["mend"]


def test_a_full_disk_and_a_small_memory_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_free", lambda: (100 << 20, 1 << 30))
    monkeypatch.setattr(machine, "disk_free", lambda folder: 1 << 20)
    code, told = ask()
    assert code == 1
    assert found(told, "memory")["value"] == "100 MiB free of 1.0 GiB"
    assert found(told, "disk for feature files")["value"].startswith("1 MiB free at ")
    assert {"memory", "disk for kept networks"} <= {
        each["name"] for each in told["findings"] if each["state"] == "missing"
    }


def test_every_extra_that_can_be_installed_is_looked_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(checkup.EXTRAS) == set(setup["options.extras_require"]) - {"test", "dev"}


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    done = CliRunner().invoke(doctor, ["--benchmark", "--out", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "there is no folder" in str(done.exception)


@pytest.mark.parametrize("kind", ["ONNX file", "own function"])
def test_a_network_of_the_users_own_is_measured(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "measure", functools.partial(measure, seconds=0.2))
    for name, little in (("_SIDE", 64), ("_DRAWN", 2), ("_FILES", 16), ("_WARM", 1)):
        monkeypatch.setattr(stages, name, little)
    name = network = "tests.features.networks.imported.own_models:described"
    if kind == "ONNX file":
        name, network = "tiny", str(save(tiny(), tmp_path / "a.onnx"))
    words = ("--benchmark", "--network", network, "--recipe", "fast", "--out", str(tmp_path))
    done = CliRunner().invoke(doctor, words)
    assert done.exit_code == 0, done.output
    assert f"images per second, {name}" in done.stdout
    (rate,) = [line for line in done.stdout.splitlines() if line.startswith("  network, ")]
    assert float(rate.rpartition(": ")[2].split()[0].replace(",", "")) > 0


@pytest.mark.slow
def test_the_benchmark_says_what_limits_and_how_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "measure", functools.partial(measure, seconds=0.5))
    # Images that are decoded in no time.
    for name, little in (("_SIDE", 64), ("_FILES", 32), ("_WARM", 2)):
        monkeypatch.setattr(stages, name, little)
    out = tmp_path / "out"
    out.mkdir()
    words = ("--benchmark", "--images", "123456", "--network", "mobilenet_v2", "--recipe", "fast")
    told = ask(*words, "--out", str(out))[1]["benchmark"]
    assert told["on_cpu"]
    slowest = min(told[name] for name in ("read", "decode", "network", "write"))
    assert 0 < told["whole"] < slowest
    expected = (told["start"] + 123456 / told["whole"]) / 3600
    assert told["hours"] == pytest.approx(expected)
    assert told["limit"] == "the network"
    assert not list(out.iterdir())
