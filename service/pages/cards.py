"""What the pages show of one image: its verdict, with pictures and words."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from features.errors import UnreadableImage
from features.images.thumbnails import Thumbnail
from features.presenting import NOT_A_DIAGNOSIS
from service.classifier.served import Case
from service.pages import wording
from service.pages.pictures import embedded, overlay, preview

if TYPE_CHECKING:
    from models.bundle.loading import Bundle
    from models.decisions.thresholds import Zone
    from models.inference.evidence import Evidence
    from models.inference.verdict import Rejected, Verdict

__all__ = ["Card", "Look", "Map", "Neighbour", "card_of", "look_of"]

_KINDS: Final = {"suspicious": "suspicious", "not suspicious": "calm", "cannot tell": "unsure"}


@dataclass(frozen=True)
class Map:
    """Where the score comes from, as it is drawn over the image.

    Parameters
    ----------
    address : str
        ``data:`` address of a PNG in the size of the preview.
    rows, columns : int
        Of the places that it tells apart.
    raises, lowers : str or None
        Where the strongest place of each kind is, in words.
    """

    address: str
    rows: int
    columns: int
    raises: str | None
    lowers: str | None


@dataclass(frozen=True)
class Neighbour:
    """A training image that is like this one.

    Parameters
    ----------
    label : str
    distance : float
    thumbnail : str or None
        ``data:`` address.
    """

    label: str
    distance: float
    thumbnail: str | None


@dataclass(frozen=True)
class Look:
    """The map of an image whose card is on the page already.

    Parameters
    ----------
    id : str
        Names it within the page.
    picture : Thumbnail
    map : Map
    """

    id: str
    picture: Thumbnail
    map: Map


@dataclass(frozen=True)
class Card:
    """One image on the page.

    Parameters
    ----------
    id : str
        Names it within the page.
    filename : str
    kind : str
        ``"suspicious"``, ``"calm"``, ``"unsure"`` or ``"rejected"``: how it is drawn.
    verdict : Verdict or None
    rejected : Rejected or None
        Why there is no verdict.
    picture : Thumbnail or None
    zone : Zone or None
        Of probabilities that don't tell.
    unreliable : bool
        Whether something other than the probability forbids to tell, so that the number is not to
        be relied on either.
    map : Map or None
    later : bool
        Whether the page's script asks for the map once this is shown.
    similar : tuple of Neighbour
    record : dict
        What the browser keeps of it in its list of cases.
    ticket : str or None
        Names the case when a reviewer says what it was.
    """

    id: str
    filename: str
    kind: str
    verdict: Verdict | None = None
    rejected: Rejected | None = None
    picture: Thumbnail | None = None
    zone: Zone | None = None
    unreliable: bool = False
    map: Map | None = None
    later: bool = False
    similar: tuple[Neighbour, ...] = ()
    record: dict[str, Any] | None = None
    ticket: str | None = None


def card_of(
    found: Case | Rejected,
    image: bytes,
    bundle: Bundle,
    *,
    evidence: Evidence | None = None,
    ticket: str | None = None,
    later: bool = False,
) -> Card:
    """Gather what a page shows of an image.

    Parameters
    ----------
    found : Case or Rejected
        What came of it.
    image : bytes
        Content of its file.
    bundle : Bundle
        By which it was judged.
    evidence : Evidence, optional
        Where its score comes from.
    ticket : str, optional
        By which a reviewer names it.
    later : bool, optional
        Whether the map comes by itself, see `look_of`.
    """
    name = _name()
    if not isinstance(found, Case):
        return Card(name, found.filename, "rejected", rejected=found)
    verdict = found.verdict
    try:
        picture = preview(image)
    except UnreadableImage:
        picture = None
    return Card(
        name,
        verdict.filename,
        _KINDS[verdict.decision],
        verdict=verdict,
        picture=picture,
        zone=bundle.decision_with(verdict.inputs).zone,
        unreliable=any(reason.kind != "in_zone" for reason in verdict.reasons),
        map=_map(evidence, picture) if evidence and picture else None,
        later=later and picture is not None,
        similar=tuple(
            Neighbour(each.label, each.distance, embedded(each.thumbnail))
            for each in verdict.similar
        ),
        # Words and numbers alone: pictures have no place in a browser's store.
        record={
            "file": verdict.filename,
            "decision": verdict.decision,
            "flagged": verdict.flagged,
            "probability": verdict.probability,
            "threshold": verdict.threshold,
            "label": verdict.label,
            "reasons": [reason.text for reason in verdict.reasons],
            "warnings": [
                note.text for note in (*verdict.warnings, verdict.known) if note is not None
            ],
            "classes": verdict.classes,
            **({"inputs": verdict.inputs} if verdict.inputs else {}),
            "model": bundle.identity[:16],
            "marks": [*bundle.marks],
            "notice": NOT_A_DIAGNOSIS,
        },
        ticket=ticket,
    )


def look_of(image: bytes, evidence: Evidence) -> Look:
    """Draw where an image's score comes from.

    Raises
    ------
    UnreadableImage
    """
    picture = preview(image)
    return Look(_name(), picture, _map(evidence, picture))


def _name() -> str:
    return f"case-{secrets.token_hex(4)}"


def _map(evidence: Evidence, picture: Thumbnail) -> Map:
    effect = evidence.effect
    rows, columns = effect.shape
    return Map(
        overlay(effect, picture.width, picture.height),
        rows,
        columns,
        _strongest(effect),
        _strongest(-effect),
    )


def _strongest(effect: np.ndarray[Any, np.dtype[np.float32]]) -> str | None:
    row, column = np.unravel_index(int(effect.argmax()), effect.shape)
    if effect[row, column] <= 0:
        return None
    return wording.place((row + 0.5) / effect.shape[0], (column + 0.5) / effect.shape[1])
