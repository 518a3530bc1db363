"""An audit as one HTML file with its pictures inside, which needs nothing beside it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import Environment

from features.audit.findings import Audit, Group
from features.cache.contents import Features
from features.errors import UnreadableImage
from features.images.thumbnails import thumbnail
from features.numbers import brief, count
from features.presenting import MARKS, page_environment

__all__ = ["render_audit"]

_SIDE: Final = 176
_MOST_GROUPS: Final = 60
_MOST_MEMBERS: Final = 12
_MOST_ODDITIES: Final = 24
_MOST_TROUBLES: Final = 200


def render_audit(found: Audit, features: Features, name: str) -> str:
    """Write the page.

    Parameters
    ----------
    found : Audit
    features : Features
        What was audited.
    name : str
        Of the feature file.

    Returns
    -------
    str
        HTML without references to other files; text from the data set is escaped.
    """
    sections = {
        "leaks": found.leaks,
        "contradictions": tuple(group for group in found.contradictions if not group.crosses),
        "copies": tuple(
            group for group in found.groups if not group.crosses and not group.contradicts
        ),
    }
    pictures = _Pictures(Path(found.folder)) if found.seen else None
    return (
        _environment()
        .get_template("audit.html")
        .render(
            audit=found,
            features=features,
            name=name,
            sections=sections,
            notable=[confounder for confounder in found.confounders if confounder.notable],
            marks=[MARKS[mark] for mark in found.marks],
            classes=sorted({label for row in found.counts.values() for label in row}),
            exact=sum(group.exact for group in found.groups),
            picture=pictures.uri if pictures else lambda path: None,
            shape=_shapes(features).get,
            folder=lambda path: "".join(path.rpartition("/")[:2]),
            base=lambda path: path.rpartition("/")[2],
            verdict=_verdict(found),
            most_groups=_MOST_GROUPS,
            most_members=_MOST_MEMBERS,
            most_oddities=_MOST_ODDITIES,
            most_troubles=_MOST_TROUBLES,
        )
    )


def _verdict(found: Audit) -> str:
    if not found.leaks:
        return "No copy of an image was found in another split."
    spoilt = {
        member.path
        for group in found.leaks
        for member in group.members
        if member.split in {"valid", "test"}
    }
    shown = "shows" if len(spoilt) == 1 else "show"
    return (
        f"{count(len(spoilt), 'image')} of the validation or test split {shown} what another split "
        "shows, too: figures on them would be too good."
    )


class _Pictures:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def uri(self, path: str) -> str | None:
        """Give a small picture as a data URI; none if it can't be read."""
        try:
            return thumbnail(self._folder / path, _SIDE, square=True).uri
        except UnreadableImage:
            return None


def _shapes(features: Features) -> dict[str, float]:
    """Give width by height of each image, within what a row of pictures can bear."""
    items = features.items
    return {
        path: min(max(width / max(height, 1), 0.6), 1.8)
        for path, width, height in zip(
            items.path.tolist(), items.width.tolist(), items.height.tolist(), strict=True
        )
    }


@lru_cache(maxsize=1)
def _environment() -> Environment:
    found = page_environment(
        Path(__file__).parent / "templates",
        figure=brief,
        likeness=_likeness,
        thousands="{:,}".format,
    )
    found.globals["count"] = count
    return found


def _likeness(group: Group) -> str:
    if group.exact:
        return "the same file"
    if group.similarity is None:
        return f"embeddings {group.distance:.3f} apart"
    return f"similarity {group.similarity:.2f}"
