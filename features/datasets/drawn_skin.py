"""What surrounds a drawn lesion and says nothing about it: skin, hairs, gel, ruler, lens, light."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from features.datasets.drawn_patterns import Plane, RGBImage, cell_noise, noise, ramp, stream

__all__ = ["Scene", "add_scene", "draw_skin"]

FloatImage = npt.NDArray[np.float32]
Point = tuple[float, float]

_SKIN_TONES: Final = np.array(
    [(242, 216, 208), (216, 184, 170), (197, 163, 143), (176, 134, 108), (126, 88, 66)], np.float32
)
_MELANIN: Final = np.array([0.30, 0.75, 1.0], np.float32)
_BLOOD: Final = np.array([0.15, 1.0, 0.8], np.float32)
_OVERSAMPLING: Final = 3


@dataclass(frozen=True)
class Scene:
    """The nuisances of a drawing.

    Parameters
    ----------
    tone : float
        Skin from 0 (very light) to 1 (dark brown).
    tint : float
        White balance from -1 (bluish) to 1 (salmon).
    mottling : float
        Unevenness of the skin, freckles and small vessels, from 0 to 1.
    hairs : int
        How many hairs cross the field.
    vignette : float
        0 for none; up to 1 the dark rim of the dermatoscope reaches further in.
    lighting : float
        Fall of brightness across the image, from 0 to 1.
    bubbles : int
        Air bubbles in the contact gel.
    blur : float
        Standard deviation in pixels of a 256-pixel image.
    ruler : bool
        Whether a millimetre scale lies on the skin.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    tone: float = 0.3
    tint: float = 0.0
    mottling: float = 0.4
    hairs: int = 0
    vignette: float = 0.0
    lighting: float = 0.0
    bubbles: int = 0
    blur: float = 0.4
    ruler: bool = False

    def __post_init__(self) -> None:
        limits = {
            "tone": (0, 1),
            "tint": (-1, 1),
            "mottling": (0, 1),
            "hairs": (0, 200),
            "vignette": (0, 1),
            "lighting": (0, 1),
            "bubbles": (0, 100),
            "blur": (0, 10),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"got {name} {getattr(self, name)}, expected {low} to {high}")


def draw_skin(scene: Scene, seed: int, side: int) -> FloatImage:
    """Draw bare skin.

    Parameters
    ----------
    scene : Scene
    seed : int
    side : int
        In pixels.

    Returns
    -------
    ndarray of float32, shape (side, side, 3)
        sRGB from 0 to 255.
    """
    rng = stream(seed, "skin")
    steps = np.linspace(0, 1, len(_SKIN_TONES))
    base = np.array(
        [np.interp(scene.tone, steps, channel) for channel in _SKIN_TONES.T], np.float32
    )
    base *= 1 + scene.tint * np.array([0.05, -0.06, -0.11], np.float32)

    brown = 0.05 * noise(rng, side, 4) + 0.035 * noise(rng, side, 11) + 0.025 * noise(rng, side, 34)
    freckles = ramp(
        0.6 * (noise(rng, side, 26) + 0.4 * noise(rng, side, 60)) - 0.75 + 0.3 * scene.mottling
    )
    red = 0.05 * noise(rng, side, 5) + 0.03 * noise(rng, side, 17) + 0.02 * noise(rng, side, 45)
    winding = noise(rng, side, 15) + 0.35 * noise(rng, side, 40)
    vessels = np.exp(-((winding / 0.09) ** 2)) * ramp(noise(rng, side, 5) * 0.8)
    brown = scene.mottling * (brown + 0.22 * freckles) + 0.030 * _furrows(rng, side)
    brown += 0.010 * noise(rng, side, 100) + 0.008 * noise(rng, side, 190)
    red = scene.mottling * (red + 0.10 * vessels) + 0.012 * noise(rng, side, 75)
    return np.asarray(base * np.exp(-(brown[..., None] * _MELANIN + red[..., None] * _BLOOD)))


def _furrows(rng: np.random.Generator, side: int) -> Plane:
    """Draw the skin's fine net of lines; they are blurred anyway, so half resolution will do."""
    half = side // 2
    across = (np.arange(half, dtype=np.float32) + 0.5) / half
    heading = rng.uniform(0, np.pi)
    bend = 0.01 * noise(rng, half, 8)
    u = 0.5 + 0.6 * (np.cos(heading) * (across - 0.5) + np.sin(heading) * (across[:, None] - 0.5))
    v = 0.5 + 0.35 * (np.cos(heading) * (across[:, None] - 0.5) - np.sin(heading) * (across - 0.5))
    cells = cell_noise(rng, u + bend, v - bend, 48)
    lines = 1 - ramp((cells.second - cells.first) / 0.5)
    resized = Image.fromarray(lines).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized) * ramp(0.5 + 0.5 * noise(rng, side, 4))


def add_scene(image: FloatImage, scene: Scene, seed: int, factor: int = 1) -> RGBImage:
    """Lay hairs, ruler, gel, lens and light over skin and lesion, and expose the picture.

    Parameters
    ----------
    image : ndarray of float32, shape (side, side, 3)
        sRGB from 0 to 255; not changed.
    scene : Scene
    seed : int
    factor : int
        The result's side is the image's divided by this.

    Returns
    -------
    ndarray of uint8, shape (side // factor, side // factor, 3)
    """
    side = len(image)
    if scene.hairs:
        image = _add_hairs(image, scene.hairs, seed)
    if scene.ruler:
        image = _add_ruler(image, seed)
    if scene.bubbles:
        image = _add_bubbles(image, scene.bubbles, seed)
    image = image * _light(scene, seed, side)[:, :, None]
    picture = Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))
    if scene.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(scene.blur * side / 256))
    if factor > 1:
        picture = picture.reduce(factor)
    pixels = np.asarray(picture)
    grain = stream(seed, "sensor").standard_normal(pixels.shape, dtype=np.float32)
    return np.asarray(np.clip(pixels + 1.3 * grain + 0.5, 0, 255), np.uint8)


def _strokes(side: int, lines: list[tuple[list[Point], float, float]]) -> Plane:
    """Draw tapering lines, each as points and the widths of its ends, as coverage 0 to 1.

    Points and widths are fractions of the side.
    """
    large = side * _OVERSAMPLING
    sheet = Image.new("L", (large, large))
    pen = ImageDraw.Draw(sheet)
    for points, start, end in lines:
        placed = [(x * large, y * large) for x, y in points]
        for step, piece in enumerate(pairwise(placed)):
            width = start + (end - start) * step / max(1, len(placed) - 2)
            pen.line(piece, fill=255, width=max(1, round(width * large)))
    return np.asarray(np.asarray(sheet.reduce(_OVERSAMPLING)) / 255, np.float32)


def _add_hairs(image: FloatImage, count: int, seed: int) -> FloatImage:
    rng = stream(seed, "hairs")
    growth, colour = (
        rng.uniform(0, 2 * np.pi),
        np.array([52, 36, 28], np.float32) * rng.uniform(0.5, 2.2),
    )
    lines: list[tuple[list[Point], float, float]] = []
    along = np.linspace(0, 1, 22)[:, None]
    for _ in range(count):
        start = rng.uniform(-0.1, 1.1, 2)
        heading = growth + rng.normal(0, 0.45)
        length = rng.uniform(0.25, 0.9)
        end = start + length * np.array([np.cos(heading), np.sin(heading)])
        bow = length * rng.normal(0, 0.26) * np.array([-np.sin(heading), np.cos(heading)])
        middle = (start + end) / 2 + bow
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * middle + along**2 * end
        thick = rng.uniform(0.0025, 0.0068)
        lines.append(([(float(x), float(y)) for x, y in curve], thick, thick * 0.35))
    cover = 0.85 * _strokes(len(image), lines)[:, :, None]
    return image + cover * (colour - image)


def _add_ruler(image: FloatImage, seed: int) -> FloatImage:
    rng = stream(seed, "ruler")
    tilt = rng.choice([0.0, 0.0, -0.08, 0.08, -0.8, 0.7])
    start = np.array([rng.uniform(0.1, 0.4), rng.uniform(0.86, 0.93)])
    if abs(tilt) > 0.5:
        start = np.array([0.55, 0.95 if tilt < 0 else 0.6])
    along = np.array([np.cos(tilt), np.sin(tilt)])
    across = np.array([np.sin(tilt), -np.cos(tilt)])

    def at(mm: float, height: float) -> Point:
        x, y = start + along * mm / 20 + across * height / 20
        return float(x), float(y)

    thin = 0.0035
    lines = [([at(0, 0), at(10, 0)], thin, thin)]
    lines += [([at(mm, 0), at(mm, 0.6 if mm % 5 else 1.0)], thin, thin) for mm in range(11)]
    for left in (0.0, 0.55):
        letter = [(0, -1.0), (0, -0.35), (0.2, -0.7), (0.4, -0.35), (0.4, -1.0)]
        lines.append(([at(left + x, y) for x, y in letter], thin * 0.8, thin * 0.8))
    cover = 0.75 * _strokes(len(image), lines)[:, :, None]
    return image + cover * (np.array([40, 34, 34], np.float32) - image)


def _add_bubbles(image: FloatImage, count: int, seed: int) -> FloatImage:
    rng = stream(seed, "bubbles")
    side = len(image)
    across = (np.arange(side, dtype=np.float32) + 0.5) / side
    image = image.copy()
    for _ in range(count):
        x, y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.006, 0.02)
        left, right = np.searchsorted(across, [x - 1.5 * radius, x + 1.5 * radius])
        top, bottom = np.searchsorted(across, [y - 1.5 * radius, y + 1.5 * radius])
        dx = (across[None, left:right] - x) / radius
        dy = (across[top:bottom, None] - y) / radius
        ring = np.exp(-(((np.hypot(dx, dy) - 0.9) / 0.16) ** 2))
        shine = np.exp(-((dx + 0.35) ** 2 + (dy + 0.35) ** 2) / 0.05)
        lit = 0.5 - 0.5 * (dx + dy)
        change = 55 * ring * (np.clip(lit, 0, 1) - 0.55) + 110 * shine
        image[top:bottom, left:right] += change[:, :, None]
    return image


def _light(scene: Scene, seed: int, side: int) -> Plane:
    """Factor on the brightness: slope of the lamp, fall-off of the lens, rim of the tube."""
    rng = stream(seed, "light")
    across = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = across[None, :], across[:, None]
    heading = rng.uniform(0, 2 * np.pi)
    light = 1 - 0.20 * scene.lighting * (np.cos(heading) * x + np.sin(heading) * y + 0.3)
    off_x, off_y = rng.normal(0, 0.05, 2)
    stretch = rng.uniform(0.82, 1.0)
    away = np.hypot((x - off_x) / stretch, y - off_y)
    light = light * (1 - 0.10 * scene.lighting * np.clip(away, 0, 1.5) ** 2)
    if scene.vignette:
        rim = 1.45 - 0.45 * scene.vignette
        light = light * (0.03 + 0.97 * ramp((rim - away) / rng.uniform(0.04, 0.16)))
    return np.asarray(light, dtype=np.float32)
