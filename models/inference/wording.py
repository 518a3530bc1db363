"""Every sentence that a verdict says: change it here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from features.images.quality import Quality
from features.presenting import MARKS
from models.decisions.thresholds import Zone
from models.inference.verdict import Note, NoteKind, Reason
from models.patients.encoding import Unused

__all__ = [
    "because_of_zone",
    "because_unlike",
    "faults_of",
    "hints_of",
    "known_as",
    "marked",
    "not_shown",
    "not_used",
    "said_by_threshold",
]

_REASONS: Final = {
    "in_zone": "The probability lies in the zone of uncertainty ({zone.lower:.3f} to "
    "{zone.upper:.3f}), where both classes are too frequent to tell them apart.",
    "unlike": "The picture is unlike the images that the classifier was trained on (distance "
    "{distance:.2f}, beyond {share:.0%} of them).",
    "small": "The picture is too small: {width} x {height} pixels where the classifier looks at "
    "{side} x {side}.",
    "flat": "The picture is nearly uniform: there is nothing to be seen on it.",
    "dark": "The picture is too dark.",
    "overexposed": "The picture is overexposed: most of it is at the brightest value.",
    "blurred": "The picture is blurred.",
}
_NOTES: Final = {
    "patch": "A coloured patch or ink seems to be in the picture: it may mislead.",
    "hair": "Dense hair seems to cover the picture: it may mislead.",
    "not_taken": "The {name} was not used: {taken}.",
    "not_known": "The {name} {value!r} counts as not known: in training there were {listed}.",
    "no_map": "Where in the image the result comes from can't be shown: what is read off this "
    "network is not spread over the image.",
    "part_map": "Where it looked shows what {shown} sees alone: what is read off {others} is not "
    "spread over the image.",
    "trained_on": "This image is in the training set, as {label!r}.",
}
_THRESHOLD: Final = "The probability is {side} the threshold, which by itself says: {decision}."
# Of the categories that a bundle knows, as many are listed.
_LISTED: Final = 12


def because_of_zone(zone: Zone) -> Reason:
    """Say that the probability lies in the zone of uncertainty."""
    return Reason("in_zone", _REASONS["in_zone"].format(zone=zone))


def because_unlike(distance: float, alpha: float) -> Reason:
    """Say that an image is as far from the training images as no more than `alpha` of them."""
    return Reason("unlike", _REASONS["unlike"].format(distance=distance, share=1 - alpha))


def faults_of(quality: Quality) -> tuple[Reason, ...]:
    """Say what forbids to judge a picture."""
    numbers = {"width": quality.width, "height": quality.height, "side": quality.side}
    return tuple(Reason(kind, _REASONS[kind].format(**numbers)) for kind in quality.faults)


def hints_of(quality: Quality) -> tuple[Note, ...]:
    """Say what in a picture may mislead, and what had to be assumed to read it."""
    seen = tuple(Note(kind, _NOTES[kind]) for kind in quality.hints)
    assumed = tuple(Note("decoding", f"{told[0].upper()}{told[1:]}.") for told in quality.decoding)
    return (*seen, *assumed)


def marked(marks: Iterable[str]) -> tuple[Note, ...]:
    """Say why no result of a bundle with these marks counts."""
    return tuple(Note(cast("NoteKind", mark), MARKS[mark]) for mark in marks)


def not_shown(shown: Mapping[str, bool]) -> tuple[Note, ...]:
    """Say that there is no map, or one of some networks alone, by whether each can be shown."""
    if all(shown.values()):
        return ()
    if not any(shown.values()):
        return (Note("no_map", _NOTES["no_map"]),)
    told = {
        word: " and ".join(name for name, spread in shown.items() if spread is wanted)
        for word, wanted in (("shown", True), ("others", False))
    }
    return (Note("part_map", _NOTES["part_map"].format(**told)),)


def not_used(unused: Unused) -> Note:
    """Say why something that was given of a patient is not used."""
    if unused.value is None:
        taken = (
            f"beside the image this bundle takes {' and '.join(unused.expected)}"
            if unused.expected
            else "this bundle judges by the image alone"
        )
        return Note("not_taken", _NOTES["not_taken"].format(name=unused.name, taken=taken))
    listed = ", ".join(unused.expected[:_LISTED]) or "none"
    listed += ", …" * (len(unused.expected) > _LISTED)
    text = _NOTES["not_known"].format(name=unused.name, value=unused.value, listed=listed)
    return Note("not_known", text)


def known_as(label: str) -> Note:
    """Say that the very same image was trained on with this label."""
    return Note("trained_on", _NOTES["trained_on"].format(label=label))


def said_by_threshold(flagged: bool) -> str:
    """Say what the threshold alone would, of an image that can't be told."""
    return _THRESHOLD.format(
        side="at or above" if flagged else "below",
        decision="suspicious" if flagged else "not suspicious",
    )
