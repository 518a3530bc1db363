"""What folders say by their names: a split, a class, or nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from features.datasets.reading.folder_words import COUNTED, FILLERS, GRADED, beside_known
from features.datasets.vocabulary import (
    AMBIGUOUS_SPLITS,
    SPLIT_NAMES,
    canonical_class,
    folder_words,
    is_known_class,
    is_missing,
    words,
)

__all__ = ["ROLES", "Place", "Places", "read_places"]

ROLES: Final = ("train", "valid", "test", "class", "none", "skip")

_FEW_CLASSES: Final = 30


@dataclass(frozen=True)
class Place:
    """What the folders above an image say of it, and which of them."""

    label: str = ""
    split: str = ""
    label_from: str = ""
    split_from: str = ""


@dataclass(frozen=True)
class _Part:
    """One folder: what its name says."""

    name: str
    kind: str
    split: str = ""
    label: str = ""


@dataclass
class Places:
    """What all folders say.

    Parameters
    ----------
    of : dict of tuple of str to Place
        By the folder's parts.
    roles : dict of str to str
        For each name what it was taken for, and why.
    class_problems, split_problems : list of str
        What could not be told.
    notes : list of str
    """

    of: dict[tuple[str, ...], Place] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    class_problems: list[str] = field(default_factory=list)
    split_problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_places(
    folders: Iterable[tuple[str, ...]],
    roles: Mapping[str, str] | None = None,
    class_level: str | None = None,
) -> Places:
    """Read folder names.

    Parameters
    ----------
    folders : iterable of tuple of str
        The parts of each folder that holds images, outermost first.
    roles : mapping of str to str, optional
        What a person says of names: one of `ROLES`, by name in any case.
    class_level : {"outer", "inner"}, optional
        Which of two folders that may both be classes is it.

    Returns
    -------
    Places
    """
    found = Places()
    given = {name.casefold(): role for name, role in (roles or {}).items()}
    listed = sorted(set(folders))
    read = {parts: [_part(name, given) for name in parts] for parts in listed}
    _resolve_evaluation(read, found)
    _drop_wrappers(read, found)
    _drop_numbered(read, found)
    splits = {parts: _split(parts, named, found) for parts, named in read.items()}
    classes = _classes(read, class_level, found)
    for parts in listed:
        (label, label_from), (split, split_from) = classes[parts], splits[parts]
        found.of[parts] = Place(label, split, label_from, split_from)
    _require_splits_beside_splits(found)
    _tell_roles(found)
    return found


def _part(name: str, given: Mapping[str, str]) -> _Part:
    if role := given.get(name.casefold()):
        if role in ("train", "valid", "test"):
            return _Part(name, "split", role)
        return _Part(name, "class" if role == "class" else "none", label=name)
    found = list(folder_words(name))
    splits = {SPLIT_NAMES[word] for word in found if word in SPLIT_NAMES}
    for first, second in itertools.pairwise(found):
        if first in ("hold", "held") and second == "out":
            splits.add("test")
            found = [word for word in found if word not in (first, second)]
    rest = [
        word
        for word in found
        if word not in SPLIT_NAMES and word not in FILLERS and not word.isdecimal()
    ]
    if is_missing(name):
        return _Part(name, "unknown")
    if len(found) == 1 and len(name) <= 2 and name.isascii() and not name.isdecimal():
        # "x" and "v" mean nothing in "256 x 256" and "v2", and may be classes alone.
        return _Part(name, "other", label=name)
    if not rest and found and all(word in FILLERS for word in found) and is_known_class(name):
        return _Part(name, "other", label=name)
    if splits and not rest:
        return _Part(name, "split" if len(splits) == 1 else "splits", "".join(sorted(splits)[:1]))
    if splits and is_known_class(" ".join(rest)):
        kind = "both" if len(splits) == 1 else "splits"
        return _Part(name, kind, sorted(splits)[0], " ".join(rest))
    if rest and set(rest) <= AMBIGUOUS_SPLITS:
        return _Part(name, "evaluation")
    if splits:
        return _Part(name, "mixed", label=name)
    if not rest:
        # 0 and 1 may well be classes, years and parts are not.
        short = len(found) == 1 and found[0].isdecimal() and len(found[0]) == 1
        return _Part(name, "digit" if short and name.strip() == found[0] else "none", label=name)
    letters = [word for word in rest if not word.isdecimal()]
    if len(rest) < len(found) and set(letters) <= COUNTED | {"m", "d", "y"}:
        return _Part(name, "none")
    if len(rest) < len(found) and all(len(word) == 1 for word in rest) and len(found) > 1:
        # "part_a", "batch B"
        return _Part(name, "none" if set(found) & FILLERS else "other", label=name)
    return _Part(name, "other", label=name)


def _resolve_evaluation(read: dict[tuple[str, ...], list[_Part]], found: Places) -> None:
    parts = [part for named in read.values() for part in named]
    names = sorted({part.name for part in parts if part.kind == "evaluation"})
    if not names:
        return
    splits = {part.split for part in parts if part.kind in ("split", "both")}
    free = sorted({"valid", "test"} - splits)
    if not free:
        found.split_problems.append(
            f"the folder {names[0]!r} may be the validation or the test split: "
            f"say --folder {names[0]}=valid or --folder {names[0]}=test"
        )
        return
    if len(free) > 1:
        # What is the test split chooses nothing, so that this can do no harm.
        found.notes.append(
            f"the folder {names[0]!r} was taken for the test split: say --folder "
            f"{names[0]}=valid if it is not"
        )
    for folder, named in read.items():
        read[folder] = [
            replace(part, kind="split", split=free[0]) if part.kind == "evaluation" else part
            for part in named
        ]


def _drop_wrappers(read: dict[tuple[str, ...], list[_Part]], found: Places) -> None:
    """Ignore folders that hold everything: an archive often wraps all in one of its own."""
    while read and all(read.values()):
        first = {named[0].name for named in read.values()}
        outer = next(iter(read.values()))[0]
        if len(first) > 1 or (outer.kind in ("other", "class") and is_known_class(outer.name)):
            return
        deeper = [part for named in read.values() for part in named[1:]]
        below = {part.split for part in deeper if part.kind in ("split", "both")}
        if outer.kind in ("split", "both"):
            inner = [{part.split for part in named[1:]} - {""} for named in read.values()]
            if not below - {outer.split} or not all(inner):
                return
        elif not below and not any(
            part.kind == "other" and is_known_class(part.name) for part in deeper
        ):
            return
        if outer.kind == "class":
            return
        if outer.kind != "none":
            found.roles[outer.name] = "nothing: it holds everything else"
        for folder, named in read.items():
            read[folder] = named[1:]


def _drop_numbered(read: dict[tuple[str, ...], list[_Part]], found: Places) -> None:
    """Take numbered folders, such as one for each patient, for no classes."""
    names = {part.name for named in read.values() for part in named if part.kind == "other"}
    kinds: dict[str, set[str]] = {}
    for name in names:
        letters = [word for word in words(name) if not word.isdecimal()]
        if not re.search(r"\d", name) or set(letters) & GRADED or is_known_class(name):
            continue
        kinds.setdefault(re.sub(r"\d+", "#", name.casefold()), set()).add(name)
    numbered = {name for group in kinds.values() if len(group) > 1 for name in group}
    for folder, named in read.items():
        read[folder] = [
            replace(part, kind="none") if part.name in numbered else part for part in named
        ]
    if numbered:
        some = sorted(numbered)[:2]
        found.notes.append(
            f"{len(numbered)} folders that differ in a number ({some[0]}, {some[1]}) were not "
            "taken for classes"
        )


def _split(parts: tuple[str, ...], named: Sequence[_Part], found: Places) -> tuple[str, str]:
    several = [part for part in named if part.kind == "splits"]
    if several:
        found.split_problems.append(
            f"the folder {several[0].name!r} names several splits: "
            f"say --folder {several[0].name}=train, =valid or =test"
        )
        return "", ""
    for part in named:
        if part.kind == "mixed":
            found.split_problems.append(
                f"the folder {part.name!r} names a split and something else: say "
                f"--folder {part.name}=class, or =train, =valid, =test or =none"
            )
    told = [part for part in named if part.kind in ("split", "both")]
    if len({part.split for part in told}) > 1:
        found.split_problems.append(
            f"the folders {'/'.join(parts)!r} name two splits, {told[0].name} and {told[1].name}: "
            f"say of one --folder {told[0].name}=none"
        )
        return "", ""
    return (told[0].split, told[0].name) if told else ("", "")


def _classes(
    read: Mapping[tuple[str, ...], Sequence[_Part]], class_level: str | None, found: Places
) -> dict[tuple[str, ...], tuple[str, str]]:
    chains = {
        folder: [part for part in named if part.kind not in ("split", "splits", "none")]
        for folder, named in read.items()
    }
    _judge_digits(chains, found)
    level = _level(chains, class_level, found)
    result = {}
    for folder, chain in chains.items():
        part = _chosen(chain, level)
        result[folder] = ("", "") if part is None else (part.label or part.name, part.name)
        if part is not None and part.kind == "unknown":
            result[folder] = ("", "")
            found.roles[part.name] = "no class: its name says that none is known"
    _tell_passed(chains, {origin for _, origin in result.values()}, found)
    said = {part.name for chain in chains.values() for part in chain if part.kind == "class"}
    names = {
        label
        for label, origin in result.values()
        if label and origin not in said and not is_known_class(label)
    }
    found.notes += beside_known({label for label, _ in result.values() if label} - names, names)
    if len(names) > _FEW_CLASSES:
        some = sorted(names)
        found.class_problems.append(
            f"there are {len(names)} folders with images ({some[0]!r}, {some[1]!r}), which are too "
            "many to be classes: give labels with --labels, or say --folder '*=class' or '*=none'"
        )
    return result


def _tell_passed(
    chains: Mapping[tuple[str, ...], Sequence[_Part]], taken: set[str], found: Places
) -> None:
    """Tell of names above or below the classes that say nothing: they may be unknown splits."""
    passed = {
        part.name for chain in chains.values() for part in chain if part.kind == "other"
    } - taken
    found.roles |= dict.fromkeys(passed, "nothing: the class is another folder")
    if len(passed) > 1:
        some = " and ".join(map(repr, sorted(passed)[:2]))
        found.notes.append(
            f"{len(passed)} folders above or below the classes, such as {some}, were taken for "
            "nothing: if they are splits, say --folder NAME=train, =valid or =test"
        )


def _judge_digits(chains: dict[tuple[str, ...], list[_Part]], found: Places) -> None:
    digits = {part.name for chain in chains.values() for part in chain if part.kind == "digit"}
    if digits and digits != {"0", "1"}:
        some = sorted(digits)
        found.class_problems.append(
            f"the folders {' and '.join(map(repr, some[:2]))} may be classes or not: "
            f"say --folder {some[0]}=class or --folder {some[0]}=none of each"
        )
        for folder, chain in chains.items():
            chains[folder] = [part for part in chain if part.kind != "digit"]


def _chosen(chain: Sequence[_Part], level: int | None) -> _Part | None:
    named = [part for part in chain if part.kind == "class"]
    if named:
        return named[0]
    both = [part for part in chain if part.kind == "both"]
    if both:
        return both[0]
    if level is None:
        return next((part for part in chain if is_known_class(part.name)), None)
    return chain[level] if len(chain) > level else None


def _level(
    chains: Mapping[tuple[str, ...], Sequence[_Part]], class_level: str | None, found: Places
) -> int | None:
    """Give the place of the class among the folders that may be one; None: wherever it is known."""
    deepest = max(map(len, chains.values()), default=0)
    if deepest < 2:
        return 0
    known: dict[int, set[str]] = {}
    for chain in chains.values():
        for at, part in enumerate(chain):
            if is_known_class(part.name):
                known.setdefault(at, set()).add(part.name)
    if class_level:
        return 0 if class_level == "outer" else deepest - 1
    if len(known) == 1:
        return next(iter(known))
    if known:
        for folder, chain in chains.items():
            told = {canonical_class(part.name) for part in chain if is_known_class(part.name)}
            if len(told) > 1 or (chain and not told):
                what = "two classes" if told else "no class that is known"
                found.class_problems.append(
                    f"the folders {'/'.join(folder)!r} name {what}: say --class-level outer or "
                    "--class-level inner, or --folder NAME=none of those that are none"
                )
                break
        return None
    outer: dict[str, set[str]] = {}
    for chain in chains.values():
        if len(chain) > 1:
            outer.setdefault(chain[1].name.casefold(), set()).add(chain[0].name)
    repeated = [(inner, names) for inner, names in outer.items() if len(names) > 1]
    if repeated:
        inner, names = repeated[0]
        one, other = sorted(names)[:2]
        found.class_problems.append(
            f"{one}/{inner} and {other}/{inner} may be classes by the outer or the inner folder: "
            "say --class-level outer or --class-level inner"
        )
    return 0


def _require_splits_beside_splits(found: Places) -> None:
    with_split = [parts for parts, place in found.of.items() if place.split]
    without = [parts for parts, place in found.of.items() if not place.split and place.label]
    if with_split and without and not found.split_problems:
        one = found.of[with_split[0]].split_from
        name = _stranger(without[0], with_split)
        found.split_problems.append(
            f"the folder {one!r} is a split, and {name!r} beside it is none: "
            f"say --folder {name}=train, =valid or =test, or =skip to leave it out"
        )


def _stranger(parts: Sequence[str], others: Sequence[Sequence[str]]) -> str:
    """Name the outermost folder by which one path leaves the others."""
    for at, name in enumerate(parts):
        if not any(
            len(other) > at and other[: at + 1] == tuple(parts[: at + 1]) for other in others
        ):
            return name
    return parts[-1]


def _tell_roles(found: Places) -> None:
    for place in found.of.values():
        if place.split_from:
            found.roles.setdefault(place.split_from, f"the {place.split} split, by its name")
        if place.label_from and place.label_from != place.split_from:
            found.roles.setdefault(place.label_from, f"the class {place.label}")
        elif place.label_from:
            found.roles[place.label_from] = f"the {place.split} split and the class {place.label}"
