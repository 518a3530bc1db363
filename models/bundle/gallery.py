"""The training images as a bundle keeps them: to show similar cases, and to know unlike ones."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from features.cache.contents import Features, Items
from features.cache.safe_files import new_hdf5
from features.errors import LesionError, UnreadableImage
from features.images.sources.files import read_file
from features.images.thumbnails import thumbnail
from models.bundle.familiarity import (
    FALSE_ALARMS,
    Space,
    cosines,
    kth_distance,
    learn_limit,
    learn_places,
)
from models.bundle.manifest import BundleRefused, read_manifest, verify_files
from models.results_cache import Kept, content_hash

__all__ = [
    "GALLERY",
    "Gallery",
    "GalleryError",
    "Similar",
    "pictures_of",
    "read_gallery",
    "write_gallery",
]

GALLERY: Final = "gallery.h5"

_SHOWN: Final = 5000
_SIDE: Final = 96
_QUALITY: Final = 80
# Raise the last number when the same image would give another picture.
_PICTURES: Final = f"{_SIDE} {_QUALITY} 2"
_LARGEST_PICTURE: Final = 32 << 10
_JPEG: Final = b"\xff\xd8\xff"
_LARGEST_FILE: Final = 512 << 20
_COLUMNS: Final = {
    "about": (1, "uint8"),
    "axes": (2, "float16"),
    "places": (2, "float16"),
    "label": (1, "uint16"),
    "sha256": (2, "uint8"),
    "pictures": (1, "uint8"),
    "picture_ends": (1, "int64"),
}
# What h5py raises on a file that is not what it should be.
_DAMAGE: Final = (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)

# Raise it when something else would be learnt from the same embeddings.
_LEARNING: Final = 2

Floats = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]


class GalleryError(LesionError):
    """A gallery file that holds anything but a gallery."""


@dataclass(frozen=True)
class Similar:
    """A training image that is like another one.

    Parameters
    ----------
    label : str
        As in the data.
    distance : float
        As of `models.bundle.familiarity.Space`: 0 for the same embedding, 1 for nothing in common.
    sha256 : str
        Of its file.
    thumbnail : bytes or None
        A JPEG of at most 96 pixels a side.
    """

    label: str
    distance: float
    sha256: str
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class Gallery:
    """Training images, compared in a space of their own.

    Parameters
    ----------
    space : Space
    places : ndarray of float32, shape (n, k)
        Coordinates of the images that can be shown, the first n of all.
    labels : tuple of str, length m
        Of all training images.
    sha256 : tuple of str, length m
    thumbnails : tuple of (bytes or None), length n
    limit : float or None
        Distance to the fifth nearest beyond which an image is unlike them; None where there were
        too few to tell.
    alpha : float
        Share of images like the training images that may lie beyond it.
    """

    space: Space
    places: Floats
    labels: tuple[str, ...]
    sha256: tuple[str, ...]
    thumbnails: tuple[bytes | None, ...]
    limit: float | None
    alpha: float

    def __post_init__(self) -> None:
        # The first of several files with the same content.
        known = dict(zip(reversed(self.sha256), reversed(self.labels), strict=True))
        object.__setattr__(self, "_known", known)

    def is_unlike(self, distance: float) -> bool:
        """Whether an image at this distance is unlike the training images."""
        return self.limit is not None and distance > self.limit

    def label_of(self, sha256: str) -> str | None:
        """Give the label of the training image with these bytes; None if there is none."""
        found: str | None = vars(self)["_known"].get(sha256)
        return found

    def place(self, X: Floats) -> Floats:
        """Give where embeddings (n, d) lie among the training images, shape (n, k)."""
        # One by one, here and below: else their last digits would depend on what else is there.
        return np.concatenate([self.space.place(row) for row in np.split(np.asarray(X), len(X))])

    def distance(self, placed: Floats) -> npt.NDArray[np.float64]:
        """Give the distance of placed embeddings (n, k) from the training images, shape (n,)."""
        return np.concatenate(
            [kth_distance(row, self.places) for row in np.split(placed, len(placed))]
        )

    def nearest(self, placed: Floats, count: int) -> list[tuple[Similar, ...]]:
        """Give the `count` nearest training images of placed embeddings (n, k), nearest first."""
        found = []
        for row in np.split(placed, len(placed)):
            distances = (1 - row @ self.places.T)[0]
            first = np.argsort(distances, kind="stable")[:count].tolist()
            found.append(
                tuple(
                    Similar(
                        self.labels[at],
                        max(float(distances[at]), 0.0),
                        self.sha256[at],
                        self.thumbnails[at],
                    )
                    for at in first
                )
            )
        return found


def write_gallery(
    path: Path,
    features: Features,
    train: Items,
    *,
    thumbnails: bool = True,
    seed: int = 0,
    kept: Kept | None = None,
    known: Mapping[str, bytes] | None = None,
) -> None:
    """Keep training images for a bundle.

    Parameters
    ----------
    path : Path
    features : Features
        With the embeddings and the folder of the images.
    train : Items
        The images that were trained on. Beyond 5,000 only as many, drawn at random, can be shown;
        all of them are known again by their hash.
    thumbnails : bool
        Whether to keep small pictures of those whose files are where they were.
    seed : int
    kept : Kept, optional
        Has what was learnt from the same images before, and gets what is learnt now; no pictures.
    known : mapping of str to bytes, optional
        Small pictures from before, as `pictures_of` gives them, that need not be made again.

    Raises
    ------
    OSError
    """
    order = np.random.default_rng(seed).permutation(len(train))
    shown = train.take(np.sort(order[:_SHOWN]))
    hidden = train.take(np.sort(order[_SHOWN:]))
    # Pictures keep another core busy than what is learnt.
    with ThreadPoolExecutor() as pool:
        pictured = shown.take(np.arange(len(shown) if thumbnails else 0))
        made = _thumbnails(pool, Path(features.images), pictured, known or {})
        learnt = _learnt(features, shown, seed, kept)
        pictures = list(made) or [b""] * len(shown)
    limit = float(learnt["limit"]) if np.isfinite(learnt["limit"]) else None
    names, label = np.unique(np.concatenate([shown.label, hidden.label]), return_inverse=True)
    about = {
        "labels": names.tolist(),
        "limit": limit,
        "alpha": FALSE_ALARMS,
        "pictures": _PICTURES,
    }
    hashes = "".join([*shown.sha256.tolist(), *hidden.sha256.tolist()])
    columns: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "axes": learnt["axes"].astype(np.float16),
        "places": learnt["places"].astype(np.float16),
        "label": label.astype(np.uint16),
        "sha256": np.frombuffer(bytes.fromhex(hashes), np.uint8).reshape(-1, 32),
        "pictures": np.frombuffer(b"".join(pictures), np.uint8),
        "picture_ends": np.cumsum([len(each) for each in pictures], dtype=np.int64),
    }
    with new_hdf5(path) as (file, _):
        for name, values in columns.items():
            file.create_dataset(name, data=values, track_times=False)


def _learnt(features: Features, shown: Items, seed: int, kept: Kept | None) -> Arrays:
    X = np.asarray(features.embedded(shown), np.float32)
    alone = np.char.add("alone ", np.arange(len(shown)).astype(str))
    groups = np.where(shown.group == "", alone, shown.group)
    if kept is None:
        return _learn(X, groups, seed)
    what = {"gallery": _LEARNING, "data": content_hash(X, groups), "seed": seed}
    return kept.made(what, lambda: _learn(X, groups, seed))


def _learn(X: Floats, groups: npt.NDArray[Any], seed: int) -> Arrays:
    known = cosines(X)
    space, places = learn_places(X, seed=seed, known=known)
    limit = learn_limit(X, groups, seed=seed, known=known)
    return {
        "axes": space.axes,
        "places": places,
        "limit": np.array(np.nan if limit is None else limit),
    }


def pictures_of(folder: Path) -> dict[str, bytes]:
    """Give the small pictures in a bundle, by the hash of the image.

    Parameters
    ----------
    folder : Path
        Of the bundle, if there is one.

    Returns
    -------
    dict of str to bytes
        Empty if the bundle is not as it was written, or would now be made with other pictures.
    """
    try:
        files = read_manifest(folder)[0]["files"]
        data = verify_files(folder, {GALLERY: files[GALLERY]}, {GALLERY})[GALLERY]
        with h5py.File(io.BytesIO(data), "r") as file:
            columns = _read_columns(file, len(data))
        ends = columns["picture_ends"].tolist()
        found = _pictures(columns["pictures"].tobytes(), ends)
        same = json.loads(columns["about"].tobytes()).get("pictures") == _PICTURES
    except (BundleRefused, GalleryError, *_DAMAGE):
        return {}
    hashes = [row.tobytes().hex() for row in columns["sha256"][: len(ends)]]
    return {name: each for name, each in zip(hashes, found, strict=True) if each and same}


def _thumbnails(
    pool: Executor, folder: Path, items: Items, known: Mapping[str, bytes]
) -> Iterator[bytes]:
    def small(at: int) -> bytes:
        path = str(items.path[at])
        if not path:
            return b""
        try:
            picture = known.get(str(items.sha256[at]))
            if picture and (folder / path).is_file():
                return picture
            data = read_file(folder / path)
            if hashlib.sha256(data).hexdigest() != items.sha256[at]:
                return b""
            return thumbnail(data, _SIDE, quality=_QUALITY).content
        except UnreadableImage:
            # A similar case without a picture is still one.
            return b""

    return pool.map(small, range(len(items)))


def read_gallery(data: bytes, dim: int) -> Gallery:
    """Read what `write_gallery` wrote; what is in the file is data and nothing else.

    Parameters
    ----------
    data : bytes
        Content of the file.
    dim : int
        Length of the embeddings.

    Returns
    -------
    Gallery

    Raises
    ------
    GalleryError
        If anything in it is not as `write_gallery` would have it. Nothing takes more memory than
        the file is long before that is known.
    """
    if len(data) > _LARGEST_FILE:
        raise GalleryError(f"got {len(data):,} bytes, expected at most {_LARGEST_FILE:,}")
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            columns = _read_columns(file, len(data))
        return _gallery_of(columns, dim)
    except _DAMAGE as error:
        raise GalleryError(f"it can't be read ({error})") from error


def _read_columns(file: h5py.File, size: int) -> dict[str, npt.NDArray[Any]]:
    if set(file) != set(_COLUMNS):
        raise GalleryError(f"got the tables {', '.join(sorted(file)) or 'none'}")
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, (dimensions, kind) in _COLUMNS.items():
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise GalleryError(f"{name} is a link")
        table = file[name]
        if not isinstance(table, h5py.Dataset) or table.ndim != dimensions or table.dtype != kind:
            raise GalleryError(f"{name} is not a table of {kind} in {dimensions} dimensions")
        if (
            table.chunks
            or table.external
            or table.is_virtual
            or table.id.get_create_plist().get_nfilters()
        ):
            raise GalleryError(f"{name} is not stored plainly")
        if table.nbytes > size:
            raise GalleryError(f"{name} claims {table.nbytes:,} bytes in a file of {size:,}")
        columns[name] = table[()]
    return columns


def _gallery_of(columns: dict[str, npt.NDArray[Any]], dim: int) -> Gallery:
    about = json.loads(columns["about"].tobytes())
    names, limit, alpha = about["labels"], about["limit"], float(about["alpha"])
    axes, places = columns["axes"].astype(np.float32), columns["places"].astype(np.float32)
    label, sha256, ends = columns["label"], columns["sha256"], columns["picture_ends"]
    sound = {
        "labels": isinstance(names, list) and all(type(name) is str for name in names),
        "limit": limit is None or (type(limit) is float and np.isfinite(limit)),
        "alpha": 0 < alpha < 1,
        "axes": axes.shape == (dim, places.shape[1]) and bool(np.isfinite(axes).all()),
        "places": 0 < len(places) <= len(label) and bool(np.isfinite(places).all()),
        "label": len(label) == 0 or int(label.max()) < len(names),
        "sha256": sha256.shape == (len(label), 32),
        "pictures": _ends_fit(ends, len(places), columns["pictures"].size),
    }
    if odd := [name for name, holds in sound.items() if not holds]:
        raise GalleryError(f"it has values that make no sense: {', '.join(odd)}")
    return Gallery(
        Space(axes),
        places,
        tuple(names[number] for number in label.tolist()),
        tuple(row.tobytes().hex() for row in sha256),
        _pictures(columns["pictures"].tobytes(), ends.tolist()),
        limit,
        alpha,
    )


def _ends_fit(ends: npt.NDArray[np.int64], n: int, size: int) -> bool:
    if ends.shape != (n,) or int(ends[-1]) != size:
        return False
    lengths = np.diff(ends, prepend=0)
    return bool((lengths >= 0).all() and (lengths <= _LARGEST_PICTURE).all())


def _pictures(data: bytes, ends: Sequence[int]) -> tuple[bytes | None, ...]:
    found: list[bytes | None] = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        picture = data[start:end]
        if picture and not picture.startswith(_JPEG):
            raise GalleryError("a small picture is not a JPEG")
        found.append(picture or None)
    return tuple(found)
