"""Drawn lesions: what is asked for can be measured in the pixels."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from features.datasets.drawn import sample_lesion
from features.datasets.drawn_lesion import (
    COLOURS,
    FIELD_MM,
    TEXTURES,
    Colour,
    Cue,
    Lesion,
    draw_lesion,
    outline,
)
from features.datasets.drawn_skin import Scene

PLAIN = Scene(tone=0.1, mottling=0.0, blur=0.0)
SEEDS = range(8)
# Mean red, green and blue of the 16 blocks of one drawing, row by row.
GOLDEN = (
    (129.1, 107.8, 99.1),
    (177.1, 149.9, 134.2),
    (176.5, 151.8, 138.1),
    (119.5, 102.5, 93.4),
    (190.1, 156.4, 144.3),
    (149.6, 105.7, 88.2),
    (169.5, 137.6, 120.1),
    (180.7, 150.9, 137.5),
    (204.2, 174.7, 160.8),
    (171.1, 132.3, 114.5),
    (154.7, 122.4, 109.1),
    (183.0, 149.5, 136.4),
    (128.0, 105.2, 97.0),
    (211.4, 173.3, 158.9),
    (202.5, 166.4, 152.8),
    (118.2, 100.1, 91.7),
)
Mask = npt.NDArray[np.bool_]


def lesion_mask(pixels: npt.NDArray[np.uint8]) -> Mask:
    """Pixels that are clearly darker than the skin in the corners, in one piece."""
    grey = ndimage.gaussian_filter(pixels.astype(float).sum(axis=2), 1.5)
    skin = np.median(np.concatenate([grey[:10].ravel(), grey[-10:].ravel()]))
    drop = skin - grey
    found, count = ndimage.label(drop > 0.4 * np.percentile(drop, 99))
    largest = 1 + int(np.argmax(ndimage.sum_labels(found > 0, found, range(1, count + 1))))
    return np.asarray(ndimage.binary_fill_holes(found == largest))


def half_turn_asymmetry(mask: Mask) -> float:
    """Share of the union that the mask and its half turn about the centroid don't share."""
    y, x = (round(c) for c in ndimage.center_of_mass(mask))
    turned = np.zeros_like(mask)
    rows, columns = np.nonzero(mask)
    rows, columns = 2 * y - rows, 2 * x - columns
    kept = (rows >= 0) & (rows < len(mask)) & (columns >= 0) & (columns < len(mask))
    turned[rows[kept], columns[kept]] = True
    return float(1 - (mask & turned).sum() / (mask | turned).sum())


def border_irregularity(mask: Mask) -> float:
    """Perimeter squared over area; smallest for a disc."""
    inner = ndimage.binary_erosion(mask)
    return float((mask & ~inner).sum() ** 2 / mask.sum())


def measured(values: list[Any], measure: Any, **changes: Any) -> list[float]:
    """Mean of a measure over some lesions at each of the values of one property."""
    (name, _), *rest = changes.items()
    means = []
    for value in values:
        lesions = [Lesion(seed=seed, scene=PLAIN, **{name: value}, **dict(rest)) for seed in SEEDS]
        means.append(float(np.mean([measure(lesion_mask(draw_lesion(each))) for each in lesions])))
    return means


def test_asymmetry_is_seen_in_the_outline() -> None:
    low, middle, high = measured([0.0, 0.5, 1.0], half_turn_asymmetry, asymmetry=None, border=0.0)
    assert low + 0.04 < middle
    assert middle + 0.04 < high


def test_border_is_seen_in_the_perimeter() -> None:
    low, middle, high = measured(
        [0.0, 0.5, 1.0], border_irregularity, border=None, asymmetry=0.0, softness=0.1
    )
    assert low * 1.1 < middle
    assert middle * 1.1 < high


@pytest.mark.parametrize("diameter", [3.0, 6.0, 12.0])
def test_diameter_is_that_of_the_area(diameter: float) -> None:
    areas = [
        lesion_mask(
            draw_lesion(Lesion(seed, diameter=diameter, scene=PLAIN, texture="homogeneous"))
        ).mean()
        for seed in SEEDS
    ]
    measured_mm = 2 * np.sqrt(np.mean(areas) / np.pi) * FIELD_MM
    assert measured_mm == pytest.approx(diameter, rel=0.15)


@given(seed=st.integers(0, 2**40), asymmetry=st.floats(0, 1), border=st.floats(0, 1))
def test_outline_encloses_the_unit_circles_area(seed: int, asymmetry: float, border: float) -> None:
    radius = outline(Lesion(seed=seed, asymmetry=asymmetry, border=border)).astype(float)
    assert np.mean(radius**2) == pytest.approx(1, abs=1e-5)
    assert radius.min() > 0.2


def colours_present(
    lesion: Lesion, references: dict[Colour, npt.NDArray[np.float64]]
) -> set[Colour]:
    """Name every colour that at least one in 25 of the lesion's pixels is nearest to."""
    pixels = draw_lesion(lesion)
    inside = ndimage.binary_erosion(lesion_mask(pixels), iterations=3)
    smooth = ndimage.gaussian_filter(pixels.astype(float), (2, 2, 0))[inside]
    names = list(references)
    away = np.stack([np.linalg.norm(smooth - references[name], axis=1) for name in names])
    share = np.bincount(away.argmin(axis=0), minlength=len(names)) / len(smooth)
    return {name for name, part in zip(names, share, strict=True) if part > 0.04}


def test_colours_are_seen_in_the_pixels() -> None:
    base = Lesion(seed=0, asymmetry=0.5, diameter=10, texture="homogeneous", scene=PLAIN)
    references: dict[Colour, npt.NDArray[np.float64]] = {}
    for colour in COLOURS:
        # Without its patch the ground alone shows; white pigment is about as light as skin.
        pixels = draw_lesion(replace(base, colours=(colour,))).astype(float)
        references[colour] = np.median(pixels[108:148, 108:148].reshape(-1, 3), axis=0)
    for one, other in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(references[one] - references[other]) > 20, (one, other)

    found = []
    for count in (1, 2, 3, 4):
        all_four: tuple[Colour, ...] = ("light brown", "black", "red", "blue-grey")
        order = all_four[:count]
        lesions = [replace(base, seed=seed, colours=order) for seed in SEEDS]
        present = [colours_present(each, references) for each in lesions]
        found.append(np.mean([len(names) for names in present]))
        seen = [name in names for names in present for name in order]
        assert np.mean(seen) > 0.7, (order, present)
    assert found == sorted(found)
    assert found[-1] > found[0] + 1


def test_darkness_and_softness_are_seen() -> None:
    def profile(**changes: Any) -> tuple[float, float]:
        lesion = Lesion(seed=3, border=0.0, texture="homogeneous", scene=PLAIN, **changes)
        grey = draw_lesion(lesion).astype(float).mean(axis=2)
        steepest = np.abs(np.diff(ndimage.gaussian_filter(grey, 1)[128])).max()
        return float(grey[118:138, 118:138].mean()), float(steepest)

    assert profile(darkness=1.0)[0] < profile(darkness=0.0)[0] - 20
    assert profile(softness=1.0)[1] < profile(softness=0.0)[1] * 0.7


def test_textures_differ_in_their_fine_structure() -> None:
    def fine(texture: Any) -> float:
        found = []
        for seed in SEEDS:
            lesion = Lesion(seed=seed, diameter=10, texture=texture, scene=PLAIN)
            grey = draw_lesion(lesion).astype(float).mean(axis=2)[100:156, 100:156]
            found.append((grey - ndimage.gaussian_filter(grey, 3)).std())
        return float(np.mean(found))

    assert fine("network") > 1.2 * fine("homogeneous")
    assert fine("globules") > 1.2 * fine("homogeneous")


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.3, 0.6), (0.72, 0.25)])
def test_cue_is_where_it_was_put_and_nowhere_else(x: float, y: float) -> None:
    lesion = Lesion(seed=5, diameter=12, scene=PLAIN)
    cue = Cue(x=x, y=y, radius=0.09)
    without, with_cue = draw_lesion(lesion), draw_lesion(replace(lesion, cue=cue))
    change = np.abs(with_cue.astype(int) - without).sum(axis=2)
    across = (np.arange(256) + 0.5) / 256
    away = np.hypot(across[None, :] - x, across[:, None] - y)
    assert not change[away > 0.09].any()
    row, column = ndimage.center_of_mass(change)
    assert column / 256 == pytest.approx(x, abs=0.02)
    assert row / 256 == pytest.approx(y, abs=0.02)
    red, _, blue = with_cue[away < 0.04].mean(axis=0) - without[away < 0.04].mean(axis=0)
    assert blue > red + 50


fractions = st.floats(0, 1)
scenes = st.builds(
    Scene,
    tone=fractions,
    tint=st.floats(-1, 1),
    mottling=fractions,
    hairs=st.integers(0, 200),
    vignette=fractions,
    lighting=fractions,
    bubbles=st.integers(0, 100),
    blur=st.floats(0, 10),
    ruler=st.booleans(),
)
lesions = st.builds(
    Lesion,
    seed=st.integers(0, 2**64),
    asymmetry=fractions,
    border=fractions,
    colours=st.lists(st.sampled_from(COLOURS), min_size=1, unique=True).map(tuple),
    diameter=st.floats(1, 16),
    texture=st.sampled_from(TEXTURES),
    darkness=fractions,
    softness=fractions,
    x=fractions,
    y=fractions,
    scene=scenes,
    cue=st.none() | st.builds(Cue, x=fractions, y=fractions, radius=st.floats(0, 0.5)),
)


@settings(max_examples=40, deadline=None)
@given(lesion=lesions, size=st.integers(8, 260))
def test_any_lesion_is_a_picture_and_the_same_again(lesion: Lesion, size: int) -> None:
    pixels = draw_lesion(lesion, size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 0
    assert np.array_equal(pixels, draw_lesion(lesion, size))


def test_same_content_at_any_size() -> None:
    lesion = sample_lesion(np.random.default_rng(4), "melanoma")
    large = Image.fromarray(draw_lesion(lesion, 512)).reduce(4)
    for size, factor in ((256, 2), (128, 1)):
        small = np.asarray(Image.fromarray(draw_lesion(lesion, size)).reduce(factor)).astype(float)
        # The scene's own grain does not follow the size; the rest does.
        assert np.abs(small - np.asarray(large)).mean() < 4


def test_drawings_are_what_they_were() -> None:
    scene = Scene(hairs=9, vignette=0.4, lighting=0.6, bubbles=3, ruler=True, mottling=0.6)
    lesion = Lesion(
        seed=2017,
        asymmetry=0.6,
        border=0.7,
        colours=("light brown", "black", "blue-grey"),
        diameter=9.5,
        texture="globules",
        scene=scene,
    )
    blocks = draw_lesion(lesion, 128).reshape(4, 32, 4, 32, 3).mean(axis=(1, 3))
    assert np.abs(blocks - np.reshape(GOLDEN, (4, 4, 3))).max() < 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": -1}, "got seed -1"),
        ({"asymmetry": 1.5}, "got asymmetry 1.5, expected 0 to 1"),
        ({"diameter": 40.0}, "got diameter 40.0, expected 1 to 16 mm"),
        ({"colours": ()}, "expected one or more"),
        ({"colours": ("red", "red")}, "each once"),
        ({"colours": ("green",)}, "expected some of"),
        ({"texture": "checked"}, "'checked'"),
        ({"border": float("nan")}, "got border nan"),
    ],
)
def test_impossible_lesions_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lesion(**{"seed": 0} | changes)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="got size 7, expected 8 to 2048 pixels"):
        draw_lesion(Lesion(seed=0), 7)
