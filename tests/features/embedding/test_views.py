from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from features.cache.contents import read_features
from features.datasets.folders import find_images
from features.embedding.extractor import Extractor, load_extractor, rebuild_extractor
from features.embedding.recipes import choose_recipe
from features.embedding.views import TURNS, View, combine, parse_views, view_names
from features.errors import CacheMismatch, ExtractorError
from features.extraction import extract
from features.images.decoding import decode
from features.networks.registry import NETWORKS
from tests.conftest import Run
from tests.pictures import image_bytes

INCEPTION = NETWORKS["inception_v3"]
LAYERS = {"inception_v3": ("mixed5", "mixed8"), "vgg16": ("block3_pool", "block5_pool")}


def several(name: str, engine: str = "auto") -> Extractor:
    network = NETWORKS[name]
    size = network.smallest_input
    recipe = choose_recipe(
        network, "fast", views=("identity", "rotate-90"), layers=LAYERS[name], pooling="mean+std",
        sizes=(size, size + 16),
    )  # fmt: skip
    return load_extractor(name, "untrained", recipe=recipe, engine=engine, precision="fp32")


@pytest.fixture(
    scope="module", params=["vgg16", pytest.param("inception_v3", marks=pytest.mark.slow)]
)
def extractor(request: pytest.FixtureRequest) -> Extractor:
    return several(request.param)


@pytest.fixture(scope="module")
def scales(extractor: Extractor) -> tuple[np.ndarray, np.ndarray]:
    images = [decode(image_bytes(seed), *extractor.spec.frames).frames for seed in range(3)]
    small, large = (np.stack(scale) for scale in zip(*images, strict=True))
    return small, large


@pytest.mark.parametrize("turn", TURNS)
def test_a_turn_is_undone_and_is_one_of_the_eight(turn: str) -> None:
    square = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    view = View(turn, 3)
    shown = view.show(square)
    np.testing.assert_array_equal(view.undo(shown.astype(np.float32)), square)
    others = [View(other, 3).show(square) for other in TURNS if other != turn]
    assert not any(np.array_equal(shown, other) for other in others)


def test_an_image_at_several_sizes_is_as_if_it_were_read_for_each() -> None:
    data = image_bytes(1)
    together = decode(data, 64, 32)
    for pixels, size in zip(together.frames, (64, 32), strict=True):
        assert pixels.shape == (size, size, 3)
    np.testing.assert_array_equal(together.pixels, decode(data, 64).pixels)
    apart = decode(data, 32).pixels.astype(int)
    assert np.abs(together.frames[1] - apart).mean() < 2


@given(
    st.lists(st.sampled_from(list(TURNS)), min_size=1, unique=True),
    st.lists(st.integers(75, 600), min_size=1, max_size=3, unique=True),
)
def test_names_of_views_are_read_back(turns: list[str], sizes: list[int]) -> None:
    views = parse_views(view_names(turns, sizes), sizes[0])
    assert views == tuple(View(turn, size) for size in sizes for turn in turns)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("upside-down",), "expected one of identity"),
        (("identity@big",), "got view 'identity@big'"),
        (("identity~draft",), "~draft after that where it is of a part of the image"),
        (("lesion:identity~draft~bicubic",), "~bicubic at the end, and ~draft after that"),
        (("flip-h", "flip-h@75"), "name each of them once"),
        (("identity@448",), "the first must be of the input's size"),
        ((), "the first must be of the input's size"),
    ],
)
def test_views_without_sense_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ExtractorError, match=said):
        parse_views(names, 75)


def test_a_part_of_an_image_may_be_cut_out_of_a_draft() -> None:
    names = view_names(
        ["identity", "lesion:flip-h~draft", "centre0.5:identity~bicubic~draft"], [75]
    )
    whole, lesion, middle = parse_views(names, 75)
    assert not whole.draft
    assert lesion == View("flip-h", 75, "lesion", draft=True)
    assert middle == View("identity", 75, "centre0.5", resampling="bicubic", draft=True)
    assert lesion.frame.draft
    assert lesion.frame != parse_views(["lesion:identity"], 75)[0].frame
    assert view_names(["lesion:identity~draft"], [75, 96])[1] == "lesion:identity@96~draft"
    assert parse_views(["identity", "lesion:identity@96~draft"], 75)[1].size == 96


def test_a_view_may_be_interpolated_otherwise() -> None:
    (view,) = parse_views(["centre0.875:identity~bicubic"], 32)
    content = image_bytes(1, (120, 80), "PNG")
    side = 0.875 * 80
    box = (60 - side / 2, 40 - side / 2, 60 + side / 2, 40 + side / 2)
    expected = Image.open(io.BytesIO(content)).resize((32, 32), Image.Resampling.BICUBIC, box=box)
    np.testing.assert_array_equal(decode(content, view.frame).pixels, np.asarray(expected))
    (plain,) = parse_views(["centre0.875:identity"], 32)
    assert (decode(content, plain.frame).pixels != expected).any()


def test_views_of_a_size_are_averaged_and_sizes_lie_side_by_side() -> None:
    views = parse_views(("identity", "flip-h", "identity@96"), 75)
    rows = np.arange(12, dtype=np.float16).reshape(2, 6)
    expected = [[1, 2, 4, 5], [7, 8, 10, 11]]
    combined = combine(rows, views, 2)
    assert combined.dtype == np.float32
    np.testing.assert_array_equal(combined, expected)


def test_every_recipe_can_be_made() -> None:
    for name, network in NETWORKS.items():
        for recipe in network.recipes:
            spec = load_extractor(name, "untrained", recipe=recipe).spec
            assert spec.width == spec.dim * len(spec.views)
            assert len(spec.combine(np.zeros((1, spec.width), np.float32))[0]) == spec.head_dim


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"layers": ("mixed11",)}, "got layer 'mixed11', inception_v3 has mixed0"),
        ({"layers": ("mixed5", "mixed5")}, "name each of them once"),
        ({"pooling": "median"}, "got pooling 'median', expected mean or mean"),
        ({"views": ("sideways",)}, "got view 'sideways'"),
        ({"sizes": (299, 60)}, "got an input of 60 pixels, inception_v3 needs at least 75"),
    ],
)
def test_recipes_without_sense_are_refused(parts: dict[str, object], said: str) -> None:
    with pytest.raises(ExtractorError, match=said):
        choose_recipe(INCEPTION, "fast", **parts)  # type: ignore[arg-type]


def test_what_is_pooled_is_what_the_maps_hold(
    extractor: Extractor, scales: tuple[np.ndarray, np.ndarray]
) -> None:
    rows = extractor.embed(*scales)
    assert rows.shape == (3, extractor.spec.width)
    looks = extractor.look(*scales)
    np.testing.assert_allclose(
        np.concatenate([look.embeddings for look in looks], axis=1), rows, rtol=1e-3, atol=1e-3
    )
    for look in looks:
        sums = [
            part for maps in look.maps.values() for part in (maps.mean((1, 2)), maps.std((1, 2)))
        ]
        np.testing.assert_allclose(np.concatenate(sums, 1), look.embeddings, rtol=1e-3, atol=1e-3)


def test_a_view_is_what_the_turned_image_gives(
    extractor: Extractor, scales: tuple[np.ndarray, np.ndarray]
) -> None:
    turned = [np.rot90(scale, 1, (1, 2)) for scale in scales]
    dim = extractor.spec.dim
    straight, of_turned = extractor.embed(*scales), extractor.embed(*turned)
    np.testing.assert_allclose(straight[:, dim : 2 * dim], of_turned[:, :dim], rtol=1e-3, atol=1e-3)
    assert np.abs(straight[:, dim : 2 * dim] - straight[:, :dim]).max() > 0.01


def test_both_engines_agree_on_all_layers_views_and_sizes(
    extractor: Extractor, scales: tuple[np.ndarray, np.ndarray]
) -> None:
    keras = several(extractor.spec.network, "keras").embed(*scales)
    found = extractor.embed(*scales)
    assert np.linalg.norm(found - keras) < 1e-4 * np.linalg.norm(keras)


def test_an_extractor_is_rebuilt_from_its_specification(extractor: Extractor) -> None:
    assert rebuild_extractor(extractor.spec, "").spec == extractor.spec


def test_pixels_of_a_missing_size_are_refused(
    extractor: Extractor, scales: tuple[np.ndarray, np.ndarray]
) -> None:
    small, large = (each.shape[1] for each in scales)
    expected = rf"expected uint8 and \(n, {small}, {small}, 3\), \(n, {large}, {large}, 3\)"
    with pytest.raises(ValueError, match=expected):
        extractor.embed(scales[0])


def test_views_are_kept_apart_and_given_to_heads_averaged(
    extractor: Extractor, folder_of_images: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    images = folder_of_images("train/melanoma/1.jpg", "train/NotMelanoma/2.png")
    extract(find_images(images), extractor, out)
    features = read_features(out)
    spec = extractor.spec
    path = images / str(features.items.path[0])
    rows = extractor.embed(*(scale[None] for scale in decode(path, *spec.frames).frames))
    row = features.items.row[0]
    np.testing.assert_allclose(features.embeddings[row : row + 1], rows, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        features.embedded(features.items)[:1], spec.combine(rows), rtol=1e-3, atol=1e-3
    )
    larger = spec.input_size + 16
    with pytest.raises(CacheMismatch, match=f"views identity, rotate-90, identity@{larger}"):
        extract(
            find_images(images),
            Extractor(replace(spec, views=("identity",)), lambda size: extractor.prepare()),
            out,
        )


@pytest.mark.slow
def test_the_command_takes_a_recipe_and_its_parts(
    run: Run, run_here: Run, folder_of_images: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    images = folder_of_images("train/melanoma/1.jpg", "train/NotMelanoma/2.png")
    options = ("--weights", "untrained", "--out", out, "--sizes", "75,80")
    parts = ("--layers", "mixed8", "--pool", "mean+std", "--views", "identity,flip-v")
    assert run("extract_features.py", images, *options, *parts).returncode == 0
    spec = read_features(out).spec
    assert spec.views == ("identity", "flip-v", "identity@80", "flip-v@80")
    assert (spec.layers, spec.pooling, spec.dim) == (("mixed8",), "mean+std", 2560)
    refused = run_here("extract_features.py", images, *options, "--layers", "mixed99")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: got layer 'mixed99'")
    assert not refused.stdout
    assert "expected pixels" in run_here("extract_features.py", images, "--sizes", "big").stderr
