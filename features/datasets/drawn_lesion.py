"""One drawn lesion on drawn skin, with known properties.

Colours are mixed as absorbances (Beer-Lambert: light that crosses twice the pigment is dimmed
twice as often), which is why pigment over any skin tone looks like pigment and not like paint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from features.datasets.drawn_patterns import Plane, RGBImage, cell_noise, noise, ramp, stream
from features.datasets.drawn_skin import Scene, add_scene, draw_skin

__all__ = [
    "COLOURS",
    "FIELD_MM",
    "LARGEST_SIDE",
    "SMALLEST_SIDE",
    "TEXTURES",
    "Colour",
    "Cue",
    "Lesion",
    "Texture",
    "draw_lesion",
    "outline",
]

Colour = Literal["light brown", "dark brown", "black", "blue-grey", "red", "white"]
Texture = Literal["homogeneous", "network", "globules", "streaks"]
COLOURS: Final[tuple[Colour, ...]] = get_args(Colour)
TEXTURES: Final[tuple[Texture, ...]] = get_args(Texture)

FIELD_MM: Final = 20.0
"""Width of the drawn field of view in millimetres."""

_SMALLEST_CANVAS: Final = 192
SMALLEST_SIDE: Final = 8
LARGEST_SIDE: Final = 2048

# Absorbance in red, green and blue over skin; fitted by eye to photographs.
_ABSORBANCE: Final[dict[Colour, Plane]] = {
    "light brown": np.array([0.20, 0.44, 0.62], np.float32),
    "dark brown": np.array([0.52, 1.00, 1.28], np.float32),
    "black": np.array([1.35, 1.75, 1.80], np.float32),
    "blue-grey": np.array([0.74, 0.68, 0.58], np.float32),
    "red": np.array([0.12, 0.60, 0.54], np.float32),
    "white": np.array([-0.02, 0.03, 0.04], np.float32),
}
_BLUE_WHITE: Final = np.array([150, 163, 188], np.float32)


@dataclass(frozen=True)
class Cue:
    """A blue-white patch that can be put anywhere, for tests of where a model looks.

    Parameters
    ----------
    x, y : float
        Its centre as a fraction of the image's side, from the left and from the top.
    radius : float
        As a fraction of the image's side; nothing beyond it changes but by the scene's blur.
    """

    x: float
    y: float
    radius: float = 0.08


@dataclass(frozen=True)
class Lesion:
    """What is drawn: the ABCD properties, the nuisances around them, and a seed for the rest.

    Parameters
    ----------
    seed : int
        Decides everything that the other fields leave open; not negative.
    asymmetry : float
        A, from 0 (an ellipse with its pigment in the middle) to 1.
    border : float
        B, irregularity of the border from 0 (smooth) to 1 (ragged).
    colours : tuple of str
        C, distinct members of `COLOURS`; the first is the ground, the others are patches on it.
    diameter : float
        D, of the circle with the same area, in millimetres, 1 to 16; the field of view is
        `FIELD_MM` wide.
    texture : {"homogeneous", "network", "globules", "streaks"}
        The dermoscopic structure.
    darkness : float
        From 0 (faint) to 1 (heavily pigmented).
    softness : float
        From 0 (a sharp border) to 1 (one that fades out).
    x, y : float
        The lesion's centre as a fraction of the image's side.
    scene : Scene
        Skin, light, hairs and the rest, which say nothing about the lesion.
    cue : Cue, optional
        A patch at a given place.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    seed: int
    asymmetry: float = 0.2
    border: float = 0.2
    colours: tuple[Colour, ...] = ("dark brown",)
    diameter: float = 7.0
    texture: Texture = "network"
    darkness: float = 0.5
    softness: float = 0.4
    x: float = 0.5
    y: float = 0.5
    scene: Scene = field(default_factory=Scene)
    cue: Cue | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"got seed {self.seed}, expected 0 or more")
        for name in ("asymmetry", "border", "darkness", "softness", "x", "y"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"got {name} {getattr(self, name)}, expected 0 to 1")
        if not 1 <= self.diameter <= 16:
            raise ValueError(f"got diameter {self.diameter}, expected 1 to 16 mm")
        if not self.colours or len(set(self.colours)) < len(self.colours):
            raise ValueError(f"got colours {self.colours}, expected one or more, each once")
        if not set(self.colours) <= set(COLOURS) or self.texture not in TEXTURES:
            raise ValueError(
                f"got colours {self.colours} and texture {self.texture!r}, expected some of "
                f"{COLOURS} and one of {TEXTURES}"
            )


@dataclass(frozen=True)
class _Place:
    """Where each pixel of the canvas lies in the lesion."""

    x: Plane  # in units of the lesion's mean radius, from its centre
    y: Plane
    angle: Plane
    radius: Plane
    depth: Plane  # 1 in the centre, 0 on the outline, negative outside


def draw_lesion(lesion: Lesion, size: int = 256) -> RGBImage:
    """Draw a lesion as a dermatoscope would show it.

    The same lesion has the same content at any size. The same versions of NumPy and Pillow give
    the same pixels; others may differ by rounding, since random streams are NumPy's `Generator`
    and all drawing is in single precision.

    Parameters
    ----------
    lesion : Lesion
    size : int
        Side of the image in pixels, 8 to 2048.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        sRGB.

    Raises
    ------
    ValueError
        If `size` is out of its range.

    Examples
    --------
    >>> draw_lesion(Lesion(seed=1), size=64).shape
    (64, 64, 3)
    """
    if not SMALLEST_SIDE <= size <= LARGEST_SIDE:
        raise ValueError(f"got size {size}, expected {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")
    # Fine structures would alias on a small canvas, so that one is drawn larger and averaged.
    factor = math.ceil(_SMALLEST_CANVAS / size)
    side = size * factor
    image = draw_skin(lesion.scene, lesion.seed, side)
    place = _locate(lesion, side)
    inside = place.depth > -0.6
    image[inside] *= np.exp(-_absorbance(lesion, place, inside, side))
    if lesion.cue is not None:
        _add_cue(image, lesion.cue, lesion.seed)
    return add_scene(image, lesion.scene, lesion.seed, factor)


def outline(lesion: Lesion) -> npt.NDArray[np.float32]:
    """Give the distance of the outline from the centre, in units of ``diameter / 2``.

    Parameters
    ----------
    lesion : Lesion

    Returns
    -------
    ndarray of float32, shape (512,)
        At equally spaced angles from 0 to just below a full turn. It encloses the area of the
        unit circle.
    """
    rng = stream(lesion.seed, "outline")
    angle = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    elongation = rng.uniform(0.02, 0.24) * np.cos(2 * angle + rng.uniform(0, 2 * np.pi))
    lobes = _harmonics(rng, angle, np.arange(3, 7), 1.6)
    teeth = _harmonics(rng, angle, np.arange(7, 30), 0.9)
    radius = 1 + elongation + 0.20 * lesion.asymmetry * lobes + 0.085 * lesion.border * teeth
    radius = np.maximum(radius, 0.3)
    return np.asarray(radius / np.sqrt(np.mean(radius**2)), np.float32)


def _harmonics(
    rng: np.random.Generator,
    angle: npt.NDArray[np.float64],
    orders: npt.NDArray[np.int64],
    decay: float,
) -> npt.NDArray[np.float64]:
    """Sum cosines of the orders with random phases, to a mean square of 1."""
    amplitude = rng.uniform(0.5, 1.0, len(orders)) * (orders / orders[0]) ** -decay
    phase = rng.uniform(0, 2 * np.pi, len(orders))
    total = amplitude @ np.cos(orders[:, None] * angle + phase[:, None])
    return np.asarray(total / np.sqrt(np.mean(total**2)))


def _locate(lesion: Lesion, side: int) -> _Place:
    rng = stream(lesion.seed, "place")
    unit = lesion.diameter / FIELD_MM / 2
    across = (np.arange(side, dtype=np.float32) + 0.5) / side
    ragged = 0.02 + 0.05 * lesion.border
    x = (across[None, :] - lesion.x) / unit + ragged * noise(rng, side, _cells(lesion, 5))
    y = (across[:, None] - lesion.y) / unit + ragged * noise(rng, side, _cells(lesion, 5))
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    turns = np.linspace(0, 2 * np.pi, 513, dtype=np.float32)
    edge = np.interp(angle % (2 * np.pi), turns, np.resize(outline(lesion), 513))
    return _Place(x, y, angle, radius, (1 - radius / edge).astype(np.float32))


def _cells(lesion: Lesion, per_diameter: float) -> int:
    """How many noise cells cross the image when `per_diameter` cross the lesion."""
    return max(4, round(per_diameter * FIELD_MM / lesion.diameter))


def _absorbance(
    lesion: Lesion, place: _Place, inside: npt.NDArray[np.bool_], side: int
) -> npt.NDArray[np.float32]:
    """Absorbance of the pigment at the pixels inside, shape (p, 3)."""
    rng = stream(lesion.seed, "pigment")
    depth, x, y = place.depth[inside], place.x[inside], place.y[inside]
    structure, ragged = _structure(lesion, place, inside, side)
    clouds = noise(rng, side, _cells(lesion, 4))[inside]
    clumps = noise(rng, side, _cells(lesion, 9))[inside]
    grain = noise(rng, side, _cells(lesion, 19))[inside]
    specks = noise(rng, side, 80)[inside] + noise(rng, side, 130)[inside]

    fade = 0.16 + 0.45 * lesion.softness
    frayed = 0.01 + 0.07 * lesion.border
    border = (0.3 + lesion.border) * ragged + frayed * (clumps + 0.7 * grain) + 0.015 * specks
    mask = ramp((depth + border) / fade + 0.5)

    heading = rng.uniform(0, 2 * np.pi)
    lopsided = 0.4 * lesion.asymmetry * (np.cos(heading) * x + np.sin(heading) * y)
    centred = rng.uniform(-0.25, 0.5) * (np.clip(depth, 0, 1) - 0.4)
    uneven = 1 + 0.15 * clouds + 0.13 * clumps + 0.11 * grain + 0.09 * specks
    uneven += lopsided + centred
    amount = (0.6 + 0.7 * lesion.darkness) * np.clip(uneven, 0.25, 2.0) * structure

    mixed = np.broadcast_to(_ABSORBANCE[lesion.colours[0]], (len(depth), 3))
    weights = _patches(lesion, place, inside, side)
    for colour, weight in zip(lesion.colours[1:], weights, strict=True):
        mixed = mixed + weight[:, None] * (_ABSORBANCE[colour] - mixed)
    return np.asarray(mixed * (amount * mask)[:, None], dtype=np.float32)


def _patches(
    lesion: Lesion, place: _Place, inside: npt.NDArray[np.bool_], side: int
) -> list[Plane]:
    """Weight from 0 to 1 of each further colour; evenly spread, so that none hides another."""
    rng = stream(lesion.seed, "patches")
    count = len(lesion.colours) - 1
    x, y = place.x[inside], place.y[inside]
    first = rng.uniform(0, 2 * np.pi)
    # A single patch of a symmetric lesion sits in its middle, as in many naevi.
    out = 0.65 * lesion.asymmetry if count <= 1 else 0.40 + 0.15 * lesion.asymmetry
    room = 0.5 if count <= 1 else max(0.26, out * math.sin(math.pi / count))
    weights = []
    for number in range(count):
        heading = first + 2 * np.pi * (number + rng.uniform(-0.15, 0.15)) / count
        reach = room * rng.uniform(0.85, 1.25)
        away = np.hypot(x - out * np.cos(heading), y - out * np.sin(heading)) / reach
        wobble = 0.30 * noise(rng, side, _cells(lesion, 6))[inside]
        wobble += 0.18 * noise(rng, side, _cells(lesion, 14))[inside]
        wobble += 0.14 * noise(rng, side, 70)[inside]
        weights.append(rng.uniform(0.7, 0.95) * ramp(1.3 - 0.85 * away + wobble))
    return weights


def _structure(
    lesion: Lesion, place: _Place, inside: npt.NDArray[np.bool_], side: int
) -> tuple[Plane, Plane]:
    """Factor on the pigment (about 1 on average), and what the structure does to the border."""
    rng = stream(lesion.seed, "structure")
    patchy = ramp(0.5 + 0.5 * noise(rng, side, _cells(lesion, 3))[inside])
    if lesion.texture == "streaks":
        rays = noise(rng, 512, 48)
        row = ((place.angle[inside] / (2 * np.pi)) % 1 * 511).astype(int)
        column = np.clip(place.radius[inside] * 90, 0, 511).astype(int)
        ray = rays[row, column] * ramp(place.radius[inside] * 1.4 - 0.3)
        return 1 + 0.22 * ray, 0.09 * ray
    if lesion.texture == "homogeneous":
        return np.ones_like(patchy), np.zeros_like(patchy)
    across = (np.arange(side, dtype=np.float32) + 0.5) / side
    bend = [0.006 * noise(rng, side, 14) for _ in range(2)]
    u = (across[None, :] + bend[0])[inside]
    v = (across[:, None] + bend[1])[inside]
    if lesion.texture == "network":
        cells = cell_noise(rng, u, v, int(rng.integers(50, 74)))
        line = 1 - ramp((cells.second - cells.first) / 0.6)
        return 1 + patchy * (0.70 * line - 0.33), 0.04 * cells.value
    cells = cell_noise(rng, u, v, int(rng.integers(44, 62)))
    size = 0.10 + 0.22 * cells.value
    globule = 1 - ramp((cells.first - size) / 0.45)
    return 1 + patchy * (0.65 * globule - 0.20), 0.06 * cells.value


def _add_cue(image: npt.NDArray[np.float32], cue: Cue, seed: int) -> None:
    """Blend the cue's patch into the image."""
    side = len(image)
    rng = stream(seed, "cue")
    across = (np.arange(side, dtype=np.float32) + 0.5) / side
    away = np.hypot(across[None, :] - cue.x, across[:, None] - cue.y) / max(cue.radius, 1e-6)
    uneven = 2.0 + 0.5 * noise(rng, side, 34) + 0.3 * noise(rng, side, 90)
    weight = 0.9 * ramp((1 - away) * np.clip(uneven, 1.2, 4))
    image += weight[:, :, None] * (_BLUE_WHITE - image)
