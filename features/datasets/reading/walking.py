"""What lies below a folder: images, and what is left out and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from features.datasets.vocabulary import words
from features.errors import DatasetError
from features.images.formats import IMAGE_SUFFIXES, NOT_READ
from features.images.sources.files import Source, open_source
from features.numbers import count
from features.storage.addresses import as_place, full_name, is_remote

__all__ = ["LeftOut", "Walk", "image_files", "own_name", "walk", "walk_all", "walk_source"]

# Thumbnails, bins and notes of file servers, systems and programs: never a person's images.
_SYSTEM_STARTS: Final = (".", "@", "#", "$", "~")
_SYSTEM: Final = frozenset(
    {
        *("__macosx", "_macosx", "lost+found", "system volume information", "recycler", "recycled"),
        *("recycle bin", "trash", "trashes", "network trash folder", "temporary items"),
        *("thumbnails", "thumbnail", "thumbs", "_thumbs", "__thumbs"),
        *("__thumbnails", "__pycache__", "lightroom previews", "_vti_cnf", "_notes"),
        *("papierkorb", "corbeille", "thumbs.db", "@recycle"),
    }
)
_SYSTEM_FILE: Final = re.compile(r"(synophoto_thumb|synofile_thumb|synoindex|~\$).*", re.IGNORECASE)
_MADE_FROM: Final = frozenset(
    {
        *("mask", "masks", "segmentation", "segmentations", "segmented", "superpixel"),
        *("superpixels", "groundtruth", "annotation", "annotations", "overlay", "overlays"),
        *("masken", "masque", "masques", "máscara", "máscaras", "segmentierung", "segmentierungen"),
        *("heatmap", "heatmaps", "saliency", "contour", "contours", "roi", "rois"),
    }
)
_MADE_OF: Final = re.compile(r"(?:masks?|seg|segmentation|overlay|gt)[ _.-](.+)", re.IGNORECASE)
_MADE_FROM_FILE: Final = re.compile(
    r"(.+?)[ _.-](superpixels?|segmentations?|segmented|seg|masks?|lesion|roi\d*|attribute_\w+|"
    r"ground_?truth|gt|annotat\w+|overlay|heatmap|contour|labels?|thumb|thumbnail)([ _.-]?\d+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read, and why."""

    path: str
    reason: str


@dataclass
class Walk:
    """What lies below a folder.

    Parameters
    ----------
    images : list of str
        Relative to the folder, with forward slashes, sorted.
    left_out : list of LeftOut
        Whatever else is there, but for hidden files. Links that lead nowhere are among the images,
        so that they are told as images that can't be read.
    others : int
        How many files are no images.
    """

    images: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    others: int = 0

    def reasons(self) -> dict[str, int]:
        """Count what is left out by reason."""
        return dict(Counter(left.reason for left in self.left_out))


def walk(root: str | Path, seen: set[str] | None = None) -> Walk:
    """List the images below a folder; links to folders are followed, once.

    Parameters
    ----------
    root : str or Path
    seen : set of str, optional
        Real paths of folders that were walked before; added to.

    Returns
    -------
    Walk
    """
    found = Walk()
    _below(os.fspath(root), "", set() if seen is None else seen, found)
    found.images.sort()
    _without_made(found)
    return found


def walk_source(source: Source) -> Walk:
    """List the images of an archive, a list and so on, as `walk` does those below a folder."""
    found = Walk(left_out=[LeftOut(name, why) for name, why in source.refused.items()])
    for name in sorted(member.name for member in source.members):
        *folders, last = name.split("/")
        if any(map(_is_system, folders)):
            found.left_out.append(LeftOut(name, "folder of a file server or a system"))
        elif source.all_images:
            found.images.append(name)
        else:
            _sort_out(last, name, found)
    if not source.all_images:
        _without_made(found)
    return found


def walk_all(
    roots: Sequence[Path],
) -> tuple[Path, list[str], list[tuple[str, ...]], list[LeftOut], int]:
    """List images, the folders above each that may say something, and what else there is."""
    sources = [None if folder.is_dir() else open_source(folder) for folder in roots]
    where = [
        folder if source is None else source.root
        for folder, source in zip(roots, sources, strict=True)
    ]
    real = [full_name(place) for place in where]
    base = where[0] if len(roots) == 1 else _common(real)
    seen: set[str] = set()
    paths: list[str] = []
    above: list[tuple[str, ...]] = []
    left_out: list[LeftOut] = []
    others = 0
    listed: set[str] = set()
    parts: dict[str, tuple[str, ...]] = {}
    for folder, source, place in zip(roots, sources, real, strict=True):
        found = walk(folder, seen) if source is None else walk_source(source)
        start = "" if len(roots) == 1 else f"{os.path.relpath(place, base)}/".replace(os.sep, "/")
        start = "" if start == "./" else start
        own = () if len(roots) == 1 else (own_name(place),)
        parts.clear()
        for path in found.images:
            if start + path in listed:
                # Given twice, such as by its folder and alone.
                continue
            listed.add(start + path)
            paths.append(start + path)
            inside = path.rpartition("/")[0]
            if inside not in parts:
                parts[inside] = (*own, *(inside.split("/") if inside else ()))
            above.append(parts[inside])
        left_out += [LeftOut(start + left.path, left.reason) for left in found.left_out]
        others += found.others
    if not paths:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        if unread := next((left for left in left_out if "export it" in left.reason), None):
            raise DatasetError(
                f"no images found below {' and '.join(map(str, roots))} that are read: "
                f"{unread.path} is {unread.reason}"
            )
        raise DatasetError(
            f"no images found below {' and '.join(map(str, roots))} "
            f"({count(others, 'other file')}): expected files that end in {known}"
        )
    return base, paths, above, left_out, others


def _common(places: Sequence[str]) -> Path:
    kinds = {place.partition("://")[0] if is_remote(place) else "": place for place in places}
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise DatasetError(
            f"got images in places of several kinds, {first} and {second}: make a feature file of "
            "each, and join them with `python -m features merge`"
        )
    return as_place(os.path.commonpath(places))


def own_name(place: str | Path) -> str:
    """Give what a folder is called, or an archive without its endings."""
    name = os.path.basename(os.path.abspath(place))
    return name if os.path.isdir(place) else name.split(".")[0]


def image_files(place: str | Path) -> list[Path]:
    """Give the paths of the images in a folder, an archive and so on, as extraction finds them.

    Raises
    ------
    DatasetError
        If `place` is a file that can't be read as images.
    """
    if os.path.isdir(place):
        return [Path(place, path) for path in walk(place).images]
    source = open_source(place)
    return [source.root / name for name in walk_source(source).images]


def _below(folder: str, prefix: str, seen: set[str], found: Walk) -> None:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.left_out.append(
            LeftOut(prefix or ".", f"the folder can't be opened ({error.strerror})")
        )
        return
    deeper = []
    for entry in listed:
        name, path = entry.name, f"{prefix}{entry.name}"
        try:
            is_folder = entry.is_dir()
        except OSError:
            is_folder = False
        if is_folder:
            if _is_system(name):
                found.left_out.append(LeftOut(path, "folder of a file server or a system"))
            else:
                deeper.append((entry.path, f"{path}/"))
        else:
            _sort_out(name, path, found)
    for where, start in deeper:
        _below(where, start, seen, found)


def _sort_out(name: str, path: str, found: Walk) -> None:
    if name.startswith("."):
        return
    suffix = _suffix(name)
    if suffix in NOT_READ:
        found.others += 1
        found.left_out.append(
            LeftOut(path, f"{NOT_READ[suffix]}, which isn't read: export it as JPEG or PNG")
        )
    elif suffix not in IMAGE_SUFFIXES:
        found.others += 1
        found.left_out.append(LeftOut(path, "not an image by its ending"))
    elif _SYSTEM_FILE.fullmatch(name):
        found.left_out.append(LeftOut(path, "a thumbnail of a file server"))
    else:
        found.images.append(path)


def _is_system(name: str) -> bool:
    folded = name.casefold()
    return (
        name.startswith(_SYSTEM_STARTS)
        or folded in _SYSTEM
        or folded.strip("_") in _SYSTEM
        or folded.endswith((".lrdata", ".bin"))
    )


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _without_made(found: Walk) -> None:
    """Leave out masks and the like, which are made from images that are there."""
    folders = {os.path.dirname(path) for path in found.images}
    made = {folder for folder in folders if _is_made(folder)}
    made |= _copied({folder for folder in folders - made if _is_called_truth(folder)}, found.images)
    if made and made != folders:
        for path in found.images:
            if os.path.dirname(path) in made:
                found.left_out.append(LeftOut(path, "in a folder of masks or the like"))
        found.images = [path for path in found.images if os.path.dirname(path) not in made]
    stems = {PurePosixPath(path).stem.casefold() for path in found.images}
    kept = []
    for path, stem in zip(found.images, _stems(found.images), strict=True):
        match = _MADE_FROM_FILE.fullmatch(stem) or _MADE_OF.fullmatch(stem)
        if match and match[1].casefold() in stems:
            found.left_out.append(LeftOut(path, "a mask or the like of another image"))
        else:
            kept.append(path)
    found.images = kept


def _is_called_truth(folder: str) -> bool:
    return folder.rsplit("/", 1)[-1].casefold() in ("gt", "seg", "label", "labels")


def _copied(folders: set[str], images: Sequence[str]) -> set[str]:
    """Give those of the folders in which every image is called as one elsewhere."""
    if not folders:
        return set()
    names: dict[str, set[str]] = {}
    for path, stem in zip(images, _stems(images), strict=True):
        names.setdefault(os.path.dirname(path), set()).add(stem.casefold())
    outside = set().union(*(stems for folder, stems in names.items() if folder not in folders))
    return {folder for folder in folders if names[folder] <= outside}


def _stems(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        yield os.path.splitext(path.rsplit("/", 1)[-1])[0]


def _is_made(folder: str) -> bool:
    found = {word for part in folder.split("/") for word in words(part)}
    return bool(found & _MADE_FROM) or {"ground", "truth"} <= found
