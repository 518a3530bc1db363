"""Data sets of drawn lesions: what is drawn how often, and the folder it is written to."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import click
import numpy as np
from PIL import Image

from features.datasets.drawn_lesion import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    Colour,
    Cue,
    Lesion,
    Texture,
    draw_lesion,
)
from features.datasets.drawn_skin import Scene
from features.errors import DatasetError, LesionError

__all__ = [
    "LABELS",
    "MARK",
    "Cue",
    "Lesion",
    "Scene",
    "draw_dataset",
    "draw_lesion",
    "sample_lesion",
    "sample_scene",
]

Label = Literal["melanoma", "NotMelanoma"]
_Choice = TypeVar("_Choice")
LABELS: Final[tuple[Label, ...]] = get_args(Label)
MARK: Final = "SYNTHETIC.txt"
_MARK_TEXT: Final = (
    "These images are drawn by a program, not photographs of skin: "
    "no result obtained from them says anything about real lesions.\n"
)
_QUALITY: Final = 92


@dataclass(frozen=True)
class _Habit:
    """How a class looks; the two overlap in every property."""

    asymmetry: tuple[float, float]  # of beta distributions
    border: tuple[float, float]
    darkness: tuple[float, float]
    diameter: tuple[float, float]  # median in mm and spread of its logarithm
    colours: tuple[float, ...]  # probability of 1, 2, 3, ... colours
    ground: dict[Colour, float]
    patch: dict[Colour, float]
    texture: dict[Texture, float]


_HABITS: Final[dict[Label, _Habit]] = {
    "melanoma": _Habit(
        asymmetry=(3.2, 2.2),
        border=(3.0, 2.2),
        darkness=(2.6, 2.2),
        diameter=(8.6, 0.30),
        colours=(0.06, 0.26, 0.36, 0.24, 0.08),
        ground={"light brown": 0.42, "dark brown": 0.44, "black": 0.04, "red": 0.10},
        patch={
            "light brown": 1.0,
            "dark brown": 1.6,
            "black": 1.6,
            "blue-grey": 1.4,
            "red": 1.0,
            "white": 0.8,
        },
        texture={"homogeneous": 0.34, "network": 0.34, "globules": 0.20, "streaks": 0.12},
    ),
    "NotMelanoma": _Habit(
        asymmetry=(1.8, 4.0),
        border=(1.8, 3.6),
        darkness=(2.2, 2.4),
        diameter=(6.2, 0.36),
        colours=(0.44, 0.38, 0.15, 0.03),
        ground={
            "light brown": 0.46,
            "dark brown": 0.42,
            "black": 0.02,
            "blue-grey": 0.03,
            "red": 0.07,
        },
        patch={
            "light brown": 2.0,
            "dark brown": 2.4,
            "black": 0.4,
            "blue-grey": 0.3,
            "red": 0.7,
            "white": 0.3,
        },
        texture={"homogeneous": 0.26, "network": 0.44, "globules": 0.25, "streaks": 0.05},
    ),
}


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw the nuisances of an image at random, whatever its class.

    Parameters
    ----------
    rng : Generator

    Returns
    -------
    Scene
    """
    return Scene(
        tone=round(float(rng.beta(1.6, 3.2)), 3),
        tint=round(float(np.clip(rng.normal(0.0, 0.45), -1, 1)), 3),
        mottling=round(float(rng.beta(2, 2.5)), 3),
        hairs=int(rng.geometric(0.15)) if rng.random() < 0.4 else 0,
        vignette=round(float(rng.beta(1.5, 2.0)), 3) if rng.random() < 0.4 else 0.0,
        lighting=round(float(rng.uniform(0, 1)), 3),
        bubbles=int(rng.integers(1, 7)) if rng.random() < 0.2 else 0,
        blur=round(float(rng.gamma(2.5, 0.2)), 3),
        ruler=bool(rng.random() < 0.25),
    )


def sample_lesion(rng: np.random.Generator, label: Label) -> Lesion:
    """Draw the properties of a lesion at random, as its class has them.

    Melanomas tend to be less symmetric, more ragged, more colourful and larger, but every
    property of one class occurs in the other.

    Parameters
    ----------
    rng : Generator
    label : {"melanoma", "NotMelanoma"}

    Returns
    -------
    Lesion

    Raises
    ------
    ValueError
        If the label is another.
    """
    if label not in _HABITS:
        raise ValueError(f"got label {label!r}, expected one of {LABELS}")
    habit = _HABITS[label]
    median, spread = habit.diameter
    return Lesion(
        seed=int(rng.integers(2**32)),
        asymmetry=round(float(rng.beta(*habit.asymmetry)), 3),
        border=round(float(rng.beta(*habit.border)), 3),
        colours=_sample_colours(rng, habit),
        diameter=round(float(np.clip(median * np.exp(rng.normal(0, spread)), 2.5, 15)), 2),
        texture=_pick(rng, habit.texture),
        darkness=round(float(rng.beta(*habit.darkness)), 3),
        softness=round(float(rng.beta(2, 2.5)), 3),
        x=round(float(np.clip(rng.normal(0.5, 0.04), 0.35, 0.65)), 3),
        y=round(float(np.clip(rng.normal(0.5, 0.04), 0.35, 0.65)), 3),
        scene=sample_scene(rng),
    )


def _pick(rng: np.random.Generator, odds: dict[_Choice, float]) -> _Choice:
    weights = np.array(list(odds.values()))
    return list(odds)[int(rng.choice(len(odds), p=weights / weights.sum()))]


def _sample_colours(rng: np.random.Generator, habit: _Habit) -> tuple[Colour, ...]:
    count = 1 + int(rng.choice(len(habit.colours), p=habit.colours))
    colours = [_pick(rng, habit.ground)]
    while len(colours) < count:
        left = {colour: odds for colour, odds in habit.patch.items() if colour not in colours}
        colours.append(_pick(rng, left))
    return tuple(colours)


def draw_dataset(
    folder: str | Path,
    *,
    train: int = 240,
    valid: int = 60,
    test: int = 60,
    melanoma_share: float = 0.3,
    seed: int = 0,
    size: int = 256,
) -> int:
    """Draw a data set in the layout of the Kaggle set: split, then class.

    Beside the images the folder gets ``SYNTHETIC.txt``, which marks it as drawn, and
    ``properties.csv`` with what was drawn. A run that is stopped leaves no folder behind.

    Parameters
    ----------
    folder : str or Path
        Made; must not exist or be empty.
    train, valid, test : int
        Images per split; a split without images gets no folder.
    melanoma_share : float
        Share of melanomas in every split, from 0 to 1; rounded to whole images.
    seed : int
        The same seed draws the same images, and more of them leaves the first as they were.
    size : int
        Side of the images in pixels, 8 to 2048.

    Returns
    -------
    int
        How many images were drawn.

    Raises
    ------
    DatasetError
        If the folder holds something or can't be written, or a number is out of its range.
    """
    counts = {"train": train, "valid": valid, "test": test}
    _check_request(counts, melanoma_share, seed, size)
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DatasetError(
            f"{target} exists and is not an empty folder: name a new one, or remove it first"
        )
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
        _draw_into(aside, counts, melanoma_share, seed, size)
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except OSError as error:
        raise DatasetError(
            f"the images can't be written to {target} ({error.strerror or error}): "
            "name a folder on a disk with room that you may write to"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sum(counts.values())


def _check_request(counts: dict[str, int], share: float, seed: int, size: int) -> None:
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        asked = ", ".join(f"{count} for {split}" for split, count in counts.items())
        raise DatasetError(f"got {asked}: ask for at least one image, and for no negative number")
    if not 0 <= share <= 1:
        raise DatasetError(f"got a melanoma share of {share}: give a number from 0 to 1")
    if seed < 0:
        raise DatasetError(f"got seed {seed}: give 0 or a positive number")
    if not SMALLEST_SIDE <= size <= LARGEST_SIDE:
        raise DatasetError(
            f"got size {size}: give a side from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
        )


def _draw_into(folder: Path, counts: dict[str, int], share: float, seed: int, size: int) -> None:
    (folder / MARK).write_text(_MARK_TEXT, encoding="utf-8")
    with (folder / "properties.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for number, (split, place, label) in enumerate(_plan(counts, share)):
            # The split is part of the seed, so that a larger train leaves test as it was.
            rng = np.random.default_rng([seed, list(counts).index(split), place])
            lesion = sample_lesion(rng, label)
            name = f"drawn_{split}_{place:05d}"
            path = folder / split / label / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_lesion(lesion, size)).save(path, quality=_QUALITY)
            row = _properties(lesion)
            if number == 0:
                table.writerow(["id", "label", "split", *row])
            table.writerow([name, label, split, *row.values()])


def _plan(counts: dict[str, int], share: float) -> Iterator[tuple[str, int, Label]]:
    """Spread the melanomas evenly, so that a shorter split is the beginning of a longer one."""
    for split, count in counts.items():
        for place in range(count):
            due = round((place + 1) * share) > round(place * share)
            yield split, place, "melanoma" if due else "NotMelanoma"


def _properties(lesion: Lesion) -> dict[str, object]:
    row: dict[str, object] = {
        item.name: getattr(lesion, item.name)
        for item in fields(lesion)
        if item.name not in {"scene", "cue", "colours"}
    }
    row["colours"] = "+".join(lesion.colours)
    return row | {item.name: getattr(lesion.scene, item.name) for item in fields(lesion.scene)}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--train", default=240, show_default=True, help="Images to train on.")
@click.option("--valid", default=60, show_default=True, help="Images to validate on.")
@click.option("--test", default=60, show_default=True, help="Images to test on.")
@click.option("--melanoma-share", default=0.3, show_default=True, help="Share of melanomas.")
@click.option("--seed", default=0, show_default=True, help="The same seed draws the same images.")
@click.option("--size", default=256, show_default=True, help="Side of the images in pixels.")
def main(
    out: Path, train: int, valid: int, test: int, melanoma_share: float, seed: int, size: int
) -> None:
    """Draw dermoscopic images of lesions into the new folder OUT.

    They are drawings for demonstrations and tests, in the layout train|valid|test x
    melanoma|NotMelanoma, with their properties in properties.csv.
    """
    try:
        drawn = draw_dataset(
            out,
            train=train,
            valid=valid,
            test=test,
            melanoma_share=melanoma_share,
            seed=seed,
            size=size,
        )
    except LesionError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{drawn} drawn images (no photographs) are in {out}")


if __name__ == "__main__":
    main()
