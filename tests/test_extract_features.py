"""The command as a user gives it: what is refused, and how soon it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.fixture
def images(folder_of_images: Callable[..., Path]) -> Path:
    return folder_of_images("train/melanoma/0.jpg", "train/nevus/1.jpg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "error: there is no folder nowhere"),
        (["{images}", "--weights", "none.h5"], "error: there is no weights file none.h5"),
        (["{images}", "--size", "20"], "inception_v3 needs at least 75"),
        (["{images}", "--labels", "none.csv"], "error: none.csv can't be read"),
        (["{images}", "--out", "{images}"], "is a folder"),
        (["{images}", "--out", "{images}/none/f.h5"], "there is no folder"),
        (["{images}", "--network", "resnet"], "got network 'resnet', expected a name"),
        (["{images}", "--network", "timm:../vit"], "expected a name such as timm:resnet18.a1_in1k"),
        (["{images}", "--network", "no.onnx"], "there is no network no.onnx"),
        (["{images}", "--network", "no.such:thing"], "there is no function no.such:thing"),
    ],
)
def test_bad_input_gets_one_sentence(
    run_here: Run, images: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    given = [word.format(images=images) for word in words]
    defaults = ["--weights", "untrained", "--out", tmp_path / "f.h5"]
    done = run_here("extract_features.py", *defaults, *given)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "f.h5").exists()


def test_help_is_quick_to_come(run: Run) -> None:
    heavy = "{'keras', 'tensorflow', 'h5py', 'numpy', 'PIL'}"
    check = f"import sys, extract_features; sys.exit(bool({heavy} & set(sys.modules)))"
    assert run("-c", check).returncode == 0
    assert "--weights" in run("extract_features.py", "--help").stdout
