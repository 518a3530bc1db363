"""Data sets of drawn lesions: classes that overlap, a folder that others can read."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.datasets.drawn import LABELS, MARK, draw_dataset, main, sample_lesion, sample_scene
from features.datasets.drawn_lesion import Lesion, draw_lesion
from features.datasets.drawn_skin import Scene
from features.errors import DatasetError


def test_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="got label 'mole'"):
        sample_lesion(np.random.default_rng(0), "mole")  # type: ignore[arg-type]


def sampled(label: Any, count: int, seed: int = 0) -> list[Lesion]:
    return [sample_lesion(np.random.default_rng([seed, n]), label) for n in range(count)]


def test_melanomas_tend_to_be_worse_but_overlap() -> None:
    melanomas, others = (sampled(label, 400) for label in LABELS)
    properties: dict[str, Any] = {
        "asymmetry": lambda lesion: lesion.asymmetry,
        "border": lambda lesion: lesion.border,
        "colours": lambda lesion: len(lesion.colours),
        "diameter": lambda lesion: lesion.diameter,
    }
    for name, value in properties.items():
        scores = [value(lesion) for lesion in melanomas + others]
        assert 0.65 < roc_auc_score([1] * 400 + [0] * 400, scores) < 0.95, name


def test_scenes_say_nothing_about_the_class() -> None:
    melanomas, others = (sampled(label, 500, seed) for seed, label in enumerate(LABELS))
    for name in vars(sample_scene(np.random.default_rng(0))):
        pair = [
            [float(getattr(each.scene, name)) for each in group] for group in (melanomas, others)
        ]
        assert stats.mannwhitneyu(*pair).pvalue > 0.001, name


def test_simple_pixel_statistics_separate_the_classes_but_not_perfectly() -> None:
    rows, truth = [], []
    for positive, label in enumerate(reversed(LABELS)):
        for lesion in sampled(label, 80, seed=7):
            middle = draw_lesion(lesion, 96)[12:84, 12:84].astype(float)
            channels = middle.reshape(-1, 3)
            spread = channels - channels.mean(axis=0)
            chroma = np.stack([middle[..., 0] - middle[..., 1], middle[..., 1] - middle[..., 2]])
            rows.append(
                [
                    *np.percentile(channels, [5, 25, 50, 75], axis=0).ravel(),
                    *spread.std(axis=0),
                    *np.percentile(chroma.reshape(2, -1), [5, 95], axis=1).ravel(),
                ]
            )
            truth.append(positive)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    scores = cross_val_predict(head, np.array(rows), truth, cv=5, method="decision_function")
    assert 0.7 < roc_auc_score(truth, scores) < 0.99


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "images"
    assert draw_dataset(folder, train=10, valid=4, test=5, seed=3, size=32) == 19
    return folder


class TestDataset:
    def test_layout_is_the_kaggle_sets(self, folder: Path) -> None:
        counts = {
            f"{split}/{label}": len(list((folder / split / label).glob("*.jpg")))
            for split in ("train", "valid", "test")
            for label in LABELS
        }
        assert counts == {
            "train/melanoma": 3,
            "train/NotMelanoma": 7,
            "valid/melanoma": 1,
            "valid/NotMelanoma": 3,
            "test/melanoma": 2,
            "test/NotMelanoma": 3,
        }
        assert {path.name for path in folder.iterdir()} == {
            *("train", "valid", "test", "properties.csv"),
            MARK,
        }

    def test_it_says_that_it_is_drawn(self, folder: Path) -> None:
        assert "drawn by a program, not photographs" in (folder / MARK).read_text("utf-8")

    def test_properties_describe_the_files(self, folder: Path) -> None:
        with (folder / "properties.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 19
        for row in rows:
            path = folder / row["split"] / row["label"] / f"{row['id']}.jpg"
            scene = Scene(
                **{name: float(row[name]) for name in ("tone", "tint", "mottling", "vignette")},
                **{name: float(row[name]) for name in ("lighting", "blur")},
                hairs=int(row["hairs"]),
                bubbles=int(row["bubbles"]),
                ruler=row["ruler"] == "True",
            )
            numbers = ("asymmetry", "border", "diameter", "darkness", "softness", "x", "y")
            lesion = Lesion(
                seed=int(row["seed"]),
                **{name: float(row[name]) for name in numbers},  # type: ignore[arg-type]
                colours=tuple(row["colours"].split("+")),  # type: ignore[arg-type]
                texture=row["texture"],  # type: ignore[arg-type]
                scene=scene,
            )
            with Image.open(path) as image:
                difference = np.asarray(image).astype(int) - draw_lesion(lesion, 32)
            assert np.abs(difference).mean() < 6, row["id"]

    def test_same_seed_same_files_and_a_longer_split_begins_alike(
        self, folder: Path, tmp_path: Path
    ) -> None:
        def digests(root: Path) -> dict[str, str]:
            return {
                path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in root.rglob("*.jpg")
            }

        draw_dataset(tmp_path / "more", train=14, valid=4, test=5, seed=3, size=32)
        draw_dataset(tmp_path / "other", train=10, valid=4, test=5, seed=4, size=32)
        mine, more, other = (digests(root) for root in (folder, *sorted(tmp_path.iterdir())))
        assert mine.items() <= more.items()
        assert len(more) == 23
        assert not set(mine.values()) & set(other.values())
        assert len(set(mine.values())) == 19

    def test_a_folder_that_holds_something_is_refused_and_left_alone(self, folder: Path) -> None:
        before = sorted(folder.rglob("*"))
        with pytest.raises(DatasetError, match="exists and is not an empty folder"):
            draw_dataset(folder, train=1)
        assert sorted(folder.rglob("*")) == before
        with pytest.raises(DatasetError, match="exists and is not an empty folder"):
            draw_dataset(folder / MARK, train=1)

    def test_an_empty_folder_is_used(self, tmp_path: Path) -> None:
        assert draw_dataset(tmp_path, train=2, valid=0, test=0, size=16) == 2
        assert not (tmp_path / "valid").exists()

    def test_a_place_that_can_not_be_written_is_told_and_nothing_is_left(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DatasetError, match="can't be written to"):
            draw_dataset(tmp_path / "file" / "images", train=1)
        with pytest.raises(DatasetError, match="can't be written to"):
            draw_dataset(tmp_path / ("n" * 250), train=1)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"train": 0, "valid": 0, "test": 0}, "ask for at least one image"),
            ({"train": -2}, "got -2 for train"),
            ({"melanoma_share": 1.2}, "got a melanoma share of 1.2"),
            ({"melanoma_share": float("nan")}, "got a melanoma share of nan"),
            ({"seed": -1}, "got seed -1"),
            ({"size": 5000}, "got size 5000: give a side from 8 to 2048 pixels"),
        ],
    )
    def test_impossible_requests_are_refused(
        self, tmp_path: Path, changes: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(DatasetError, match=said):
            draw_dataset(tmp_path / "images", **changes)
        assert not list(tmp_path.iterdir())


class TestCommand:
    def test_draws_and_says_so(self, tmp_path: Path) -> None:
        counts = ["--train", "3", "--valid", "1", "--test", "1", "--size", "16"]
        result = CliRunner().invoke(main, [str(tmp_path / "images"), *counts])
        assert result.exit_code == 0, result.output
        assert result.output.startswith("5 drawn images (no photographs) are in ")
        assert len(list((tmp_path / "images").rglob("*.jpg"))) == 5

    def test_refusal_is_one_line_and_exit_code_1(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        result = CliRunner().invoke(main, [str(tmp_path)])
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert "is not an empty folder" in result.stderr
