import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.fitting import second_order
from benchmarks.fitting.material import DEFAULT, FRAMES, Material
from benchmarks.fitting.second_order import (
    CHANGES,
    COMPONENTS,
    LAYERS,
    TRIALS,
    covariances,
    flattened,
)
from benchmarks.fitting.trials import Study
from features.embedding.extractor import Look
from features.images.decoding import Frame


class Extractor:
    """Gives maps of 40 channels that mix 30 sources, from the colour of the image as a seed."""

    spec = SimpleNamespace(frames=(Frame(8), Frame(8, "lesion")))
    mixing = np.random.default_rng(0).normal(size=(30, 40))

    def look(self, *pixels):
        rng = np.random.default_rng(int(pixels[0][0, 0, 0, 0]))
        return [
            Look(
                np.zeros((1, 80), "f4"),
                {
                    layer: (rng.normal(size=(1, 20, 20, 30)) @ self.mixing).astype("f4")
                    for layer in LAYERS
                },
            )
            for _ in pixels
        ]


def test_components_have_a_deviation_of_1_and_do_not_vary_together(tmp_path, monkeypatch):
    paths = [tmp_path / f"{shade}.png" for shade in range(15)]
    for shade, path in enumerate(paths):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)
    monkeypatch.setattr(second_order, "load_extractor", lambda **_: Extractor())
    found = covariances(tmp_path, "keras", tmp_path / "none.h5", paths, "fp32")
    assert found.shape == (15, 2, len(LAYERS), COMPONENTS, COMPONENTS)
    for at in range(len(LAYERS)):
        together = found[:, :, at].mean(axis=(0, 1))
        assert together == pytest.approx(np.eye(COMPONENTS), abs=0.02)
    # What is there already is taken over, and needs no image.
    again = covariances(tmp_path, "keras", tmp_path / "none.h5", [], "fp32")
    np.testing.assert_array_equal(again, found)


def test_eigenvalues_are_changed_and_each_pair_kept_once():
    one = np.array([[5.0, 3.0], [3.0, 5.0]], "f4")
    assert flattened(one[None], np.asarray) == pytest.approx(np.array([[5, 3, 5]]))
    root = (np.sqrt(8) + np.sqrt(2)) / 2, (np.sqrt(8) - np.sqrt(2)) / 2
    assert flattened(one[None], np.sqrt)[0] == pytest.approx([root[0], root[1], root[0]])
    # Without the noise of a component that does not vary.
    assert np.isfinite(flattened(np.diag([1.0, 0.0])[None], np.log)).all()


def test_trials_tell_covariances_that_know_more():
    rng = np.random.default_rng(3)
    y = (rng.random(120) < 0.3).astype(int)
    columns = {}
    for name in itertools.product(FRAMES, sorted({*DEFAULT, *LAYERS}), ("mean", "std", *CHANGES)):
        knows = 1.0 * (name[2] == "root")
        columns[name] = (rng.normal(size=(120, 2)) + knows * y[:, None]).astype("f4")
    material = Material(Study.of(y, np.arange(120), repeats=2), columns, np.arange(120))
    areas = {trial.name: trial.run(material).areas.mean() for trial in TRIALS}
    assert areas["root alone, mixed4, 5, 6, 8"] > 0.9
    assert areas["root beside, 50% of the weight"] > areas["logarithm beside, 50% of the weight"]
    assert areas["logarithm alone, mixed4, 5, 6, 8"] < 0.7
