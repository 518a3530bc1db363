"""Which images there are: path, label, split and group, from folders and from tables."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from features.datasets.joining import Files, examples, split_word
from features.datasets.labelling import Labelling, TableReport, label_by_tables
from features.datasets.reading.folder_names import ROLES, Places, read_places
from features.datasets.reading.patients import patient_groups
from features.datasets.reading.walking import LeftOut, own_name, walk_all
from features.datasets.tables import LabelTable
from features.datasets.vocabulary import canonical_class, is_known_class
from features.errors import DatasetError
from features.numbers import count
from features.storage.addresses import as_place

__all__ = ["SYNTHETIC_MARK", "Choices", "Dataset", "Item", "find_images"]

SYNTHETIC_MARK: Final = "SYNTHETIC.txt"
# Folders that hold the same images in another form.
_FORM: Final = re.compile(
    r"jpe?g|png|tiff?|bmp|webp|dcm|dicom|heic|jxl|originals?|resized|cropped|previews?|small|large|"
    r"thumbs?|(resized|cropped|size)?[ _-]?\d{2,4}( ?x ?\d{2,4}|px|pixels)(px)?"
)


@dataclass(frozen=True)
class Item:
    """One image file.

    Parameters
    ----------
    path : str
        Relative to the image folder, with forward slashes.
    label : str
        Class name; empty if unknown.
    split : {"train", "valid", "test", ""}
    group : str
        What must stay together, such as a patient or a lesion; empty if unknown.
    label_from, split_from, group_from : str
        Where each comes from, for a person.
    """

    path: str
    label: str = ""
    split: str = ""
    group: str = ""
    label_from: str = field(default="", compare=False)
    split_from: str = field(default="", compare=False)
    group_from: str = field(default="", compare=False)


@dataclass(frozen=True)
class Choices:
    """What a person says where names leave a doubt.

    Parameters
    ----------
    roles : mapping of str to str
        For names of folders, or patterns such as ``"batch*"``: ``"train"``, ``"valid"``,
        ``"test"``, ``"class"``, ``"none"`` (it says nothing) or ``"skip"``.
    class_level : {"outer", "inner"}, optional
        Which of two folders that may both be classes is it.
    trust : {"tables", "folders"}, optional
        Which is right where both tell different things of an image.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    class_level: str | None = None
    trust: str | None = None


@dataclass(frozen=True)
class Dataset:
    """The images below a folder.

    Parameters
    ----------
    root : Path
        What paths are relative to: the folder, or the one above several.
    items : tuple of Item
        Sorted by path.
    ignored : int
        How many other files lie among them.
    synthetic : bool
        Whether the images are drawn.
    notes : tuple of str
        What a person should know of how the folder was read.
    left_out : tuple of LeftOut
        Files and folders that are not read, and why.
    tables : tuple of TableReport
    folders : dict of str to str
        What names of folders were taken for.
    problems : tuple of str
        What must be settled first; empty unless it was asked for.
    """

    root: Path
    items: tuple[Item, ...]
    ignored: int = 0
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    tables: tuple[TableReport, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def counts(self) -> dict[tuple[str, str], int]:
        """Count images by split and label."""
        return dict(sorted(Counter((item.split, item.label) for item in self.items).items()))


def find_images(
    root: str | Path | Sequence[str | Path],
    tables: Sequence[LabelTable] = (),
    choices: Choices | None = None,
    *,
    settled: bool = True,
) -> Dataset:
    """List the images below folders with what is known of each.

    Names of folders tell splits (``train``, ``ISIC-2017_Validation_Data``) and classes, in any
    order; names such as ``images`` or ``part_1`` tell nothing. `tables` give labels by image name
    and take the place of class folders, which must not contradict them.

    Parameters
    ----------
    root : str, Path or sequence of them
        Folders, or what `features.images.sources.files.open_source` opens.
        With several folders, each one's own name may tell its split or class, too.
    tables : sequence of LabelTable, optional
    choices : Choices, optional
    settled : bool, optional
        Whether to fail if a label or split is in doubt; else that is in `problems`.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        If there is no such folder, no image in it, no row of a table fits an image, or anything is
        in doubt: an id that fits several files, rows that contradict each other or a folder, a
        folder of which it is not clear what it says.
    """
    roots = [as_place(one) for one in ([root] if isinstance(root, (str, Path)) else root)]
    said = choices or Choices()
    base, paths, above, left_out, others = walk_all(roots)
    paths, above = _skipped(paths, above, said.roles, left_out)
    places = read_places(set(above), _roles(above, said.roles, roots), said.class_level)
    if len(roots) == 1 and base == roots[0]:
        _takeown_name(roots[0], places)
    found = [places.of[parts] for parts in above]
    items = [
        Item(
            path,
            label=place.label,
            split=place.split,
            label_from=place.label_from and f"folder {place.label_from}",
            split_from=place.split_from and f"folder {place.split_from}",
        )
        for path, place in zip(paths, found, strict=True)
    ]
    problems = list(places.split_problems)
    notes = list(places.notes)
    reports: tuple[TableReport, ...] = ()
    if any(table.labelled for table in tables):
        places.roles = {
            name: role for name, role in places.roles.items() if not role.startswith("the class")
        }
    else:
        problems += places.class_problems
    if tables:
        folder_labels = [item.label if not places.class_problems else "" for item in items]
        files = Files(paths, [item.split for item in items], folder_labels, str(base))
        drafted = Labelling(
            paths=paths,
            labels=folder_labels,
            label_from=[item.label_from for item in items],
            splits=[item.split for item in items],
            split_from=[item.split_from for item in items],
        )
        reports = label_by_tables(drafted, files, tables, base, trust=said.trust)
        items = [
            Item(path, *values)
            for path, *values in zip(
                paths,
                drafted.labels,
                drafted.splits,
                drafted.groups,
                drafted.label_from,
                drafted.split_from,
                drafted.group_from,
                strict=True,
            )
        ]
        problems += drafted.problems
        notes += drafted.notes
    patients = patient_groups(base, [item.path for item in items if not item.group], notes)
    items = [
        replace(item, group=patients[item.path], group_from="DICOM patient, hashed")
        if item.path in patients
        else item
        for item in items
    ]
    notes += _one_group(items)
    items = _together(_one_spelling(items, notes), notes)
    problems += _unsplit(items, places, notes)
    if problems and settled:
        more = f" ({len(problems) - 1} more: see --dry-run)" if len(problems) > 1 else ""
        raise DatasetError(problems[0] + more)
    synthetic = any(
        (place / SYNTHETIC_MARK).is_file() for one in roots for place in (one, one.parent)
    ) or any(left.path.rpartition("/")[2] == SYNTHETIC_MARK for left in left_out)
    items.sort(key=lambda item: item.path)
    return Dataset(
        base,
        tuple(items),
        others,
        synthetic,
        tuple(dict.fromkeys(notes)),
        tuple(left_out),
        reports,
        dict(places.roles),
        tuple(dict.fromkeys(problems)),
    )


def _skipped(
    paths: list[str],
    above: list[tuple[str, ...]],
    roles: Mapping[str, str],
    left_out: list[LeftOut],
) -> tuple[list[str], list[tuple[str, ...]]]:
    names = {name for parts in above for name in parts}
    for pattern, role in roles.items():
        if role not in ROLES:
            raise DatasetError(f"got --folder {pattern}={role}, expected one of {', '.join(ROLES)}")
        if not any(fnmatchcase(name.casefold(), pattern.casefold()) for name in names):
            raise DatasetError(
                f"no folder with images is called {pattern!r}: they are called "
                f"{examples(sorted(names), 4) or 'nothing, all lie in one folder'}"
            )
    skipped = {name for name in names if _role_of(name, roles) == "skip"}
    if not skipped:
        return paths, above
    kept = [at for at, parts in enumerate(above) if not skipped.intersection(parts)]
    there = set(kept)
    left_out += [
        LeftOut(path, "in a folder to be skipped (--folder)")
        for at, path in enumerate(paths)
        if at not in there
    ]
    if not kept:
        raise DatasetError("all images are in folders to be skipped: skip fewer with --folder")
    return [paths[at] for at in kept], [above[at] for at in kept]


def _role_of(name: str, roles: Mapping[str, str]) -> str | None:
    exact = {pattern.casefold(): role for pattern, role in roles.items()}
    if name.casefold() in exact:
        return exact[name.casefold()]
    return next(
        (role for pattern, role in exact.items() if fnmatchcase(name.casefold(), pattern)), None
    )


def _roles(
    above: Sequence[tuple[str, ...]], roles: Mapping[str, str], roots: Sequence[Path]
) -> dict[str, str]:
    found = {}
    if len(roots) > 1:
        # Of several folders, each one's name counts only if it is a split's or a class's.
        for root in roots:
            name = own_name(root)
            spoken = split_word(name) or is_known_class(name)
            if not spoken:
                found[name] = "none"
    if roles:
        for name in {name for parts in set(above) for name in parts}:
            if role := _role_of(name, roles):
                found[name] = role
    return found


def _takeown_name(root: Path, places: Places) -> None:
    """Take the split that the only folder is called by, where nothing below names one."""
    name = own_name(root)
    own = read_places([(name,)]).of[name,]
    if not own.split or own.label or any(place.split for place in places.of.values()):
        return
    places.of = {
        parts: replace(place, split=own.split, split_from=name)
        for parts, place in places.of.items()
    }
    places.roles[name] = f"the {own.split} split, by its name"
    places.notes.append(f"all images are of the {own.split} split, by the folder's name {name!r}")


def _one_spelling(items: Sequence[Item], notes: list[str]) -> list[Item]:
    """Give one class one name: "Melanoma" and "MEL" are one class, spelt as it comes first."""
    spelling: dict[str, str] = {}
    names: dict[str, str] = {}
    other: set[tuple[str, str]] = set()
    for label in (item.label for item in sorted(items, key=lambda item: item.path)):
        if label and label not in names:
            names[label] = spelling.setdefault(canonical_class(label), label)
            if label.casefold() != names[label].casefold():
                other.add((label, names[label]))
    notes += [f"{label!r} and {name!r} were taken for one class" for label, name in sorted(other)]
    return [
        replace(item, label=names[item.label]) if names.get(item.label, "") != item.label else item
        for item in items
    ]


def _together(items: list[Item], notes: list[str]) -> list[Item]:
    """Keep an image that is there in two formats or sizes together: neither may judge the other."""
    places: dict[str, list[int]] = {}
    for at, item in enumerate(items):
        *folders, name = os.path.splitext(item.path)[0].casefold().split("/")
        # jpg/X.jpg and png/X.png are one image, too, as are 224x224/X.jpg and 512x512/X.jpg.
        kept = [folder for folder in folders if not _FORM.fullmatch(folder)]
        places.setdefault("/".join((*kept, name)), []).append(at)
    several = [numbers for numbers in places.values() if len(numbers) > 1]
    for numbers in several:
        known = next((items[at].group for at in numbers if items[at].group), "")
        name = known or f"image {PurePosixPath(items[numbers[0]].path).with_suffix('')}"
        for at in numbers:
            if not items[at].group:
                items[at] = replace(
                    items[at], group=name, group_from="one name in two formats or sizes"
                )
    if several:
        first, second = (items[at].path for at in several[0][:2])
        notes.append(
            f"{count(len(several), 'image', 'is', 'are')} there in two formats or sizes (such as "
            f"{first} and {second}): both are taken and kept together as one group"
        )
    return items


def _one_group(items: Sequence[Item]) -> list[str]:
    groups = {item.group for item in items}
    if len(items) < 2 or len(groups) > 1 or groups == {""}:
        return []
    return [
        f"all images are in one group, {items[0].group!r} ({items[0].group_from}), so that none "
        "can judge the others: name another --group-column"
    ]


def _unsplit(items: Sequence[Item], places: Places, notes: list[str]) -> list[str]:
    """Refuse labelled images without a split where folders give others one; else tell of them."""
    lost = [item.path for item in items if item.label and not item.split]
    if places.split_problems or not lost or not any(item.split for item in items):
        return []
    if any(item.split_from.startswith("folder") for item in items):
        return [
            f"{count(len(lost), 'labelled image', 'is', 'are')} in no split although others are by "
            f"their folder ({examples(lost)}): say of such a folder --folder NAME=train, =valid, "
            "=test or =skip"
        ]
    notes.append(
        f"{count(len(lost), 'labelled image', 'has', 'have')} no split although others do "
        f"({examples(lost)}): such are trained on"
    )
    return []
