"""An audit in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from features.audit.confounders import Confounder
from features.audit.findings import Audit, Group
from features.numbers import brief, count, interval
from features.presenting import MARKS, shown

__all__ = ["audit_text", "sentence"]

_SHOWN = 8


def sentence(found: Confounder) -> str:
    """Say what a confounder does."""
    more = "has" if found.auc > 0.5 else "has less of it or a lower value: it has"
    return (
        f"{found.label} {more} a median of {brief(found.medians[0])}, "
        f"the others {brief(found.medians[1])}"
    )


def audit_text(found: Audit) -> str:
    """Write an audit for a terminal, the worst first.

    Parameters
    ----------
    found : Audit

    Returns
    -------
    str
        Several lines; long lists are cut, which the JSON and the page are not.
    """
    return "\n".join(map(shown, _lines(found)))


def _lines(found: Audit) -> Iterator[str]:
    yield (
        f"{count(found.images, 'image')}, {found.distinct:,} distinct; "
        f"{found.seen:,} examined in {found.folder}"
        if found.seen
        else f"{count(found.images, 'image')}, {found.distinct:,} distinct; embeddings alone"
    )
    for mark in found.marks:
        yield f"{mark.upper()}: {MARKS[mark]}"
    yield from (f"note: {note}" for note in found.notes)
    exact = sum(group.exact for group in found.groups)
    yield from _groups("groups of copies across splits", found.leaks)
    yield from _groups("groups of copies with contradicting labels", found.contradictions)
    rest = [group for group in found.groups if not group.crosses and not group.contradicts]
    yield from _groups("other groups of copies", rest)
    if found.groups:
        groups, are = count(len(found.groups), "group"), "is" if exact == 1 else "are"
        yield f"of all {groups}, {exact:,} {are} the same file several times"
    yield f"images unlike the rest: {len(found.oddities)}"
    for oddity in found.oddities[:_SHOWN]:
        yield f"  {oddity.member.path} ({oddity.score:.1f} robust deviations)"
    yield f"broken, tiny or empty images: {len(found.troubles)}"
    for trouble in found.troubles[:_SHOWN]:
        yield f"  {trouble.path}: {trouble.kind}: {trouble.reason}"
    notable = [confounder for confounder in found.confounders if confounder.notable]
    yield f"properties that predict the label: {len(notable)} of {len(found.confounders)}"
    for confounder in notable:
        yield (
            f"  {confounder.property}: AUC "
            f"{interval(confounder.auc, confounder.low, confounder.high, digits=2)}; "
            f"{sentence(confounder)}"
        )


def _groups(title: str, groups: tuple[Group, ...] | list[Group]) -> Iterator[str]:
    yield f"{title}: {len(groups)}"
    for group in groups[:_SHOWN]:
        likeness = "the same file" if group.exact else ""
        if not group.exact and group.similarity is not None:
            likeness = f"similarity {group.similarity:.2f}"
        paths = "  =  ".join(f"{member.path}" for member in group.members[:4]) + (
            f"  and {len(group.members) - 4} more" if len(group.members) > 4 else ""
        )
        yield f"  {paths} ({likeness or f'embeddings {group.distance:.3f} apart'})"
    if len(groups) > _SHOWN:
        yield f"  and {len(groups) - _SHOWN} more"
