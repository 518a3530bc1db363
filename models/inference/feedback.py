"""What reviewers found out about images that were classified, to be fitted on.

An image is kept as its embedding, so that nothing needs to be computed again to train on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.datasets.vocabulary import same_class
from features.errors import LesionError

if TYPE_CHECKING:
    from features.cache.contents import Features

__all__ = [
    "FeedbackFailed",
    "FeedbackRecord",
    "add_feedback",
]


class FeedbackFailed(LesionError):
    """Feedback that could not be kept or read.

    Parameters
    ----------
    message : str
    full : bool
        Whether it is for want of room.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full

    @property
    def code(self) -> str:
        """The kind of fault, for programs."""
        return "storage_full" if self.full else "storage_failed"


@dataclass(frozen=True)
class FeedbackRecord:
    """The true label of an image, as a reviewer gave it.

    Parameters
    ----------
    sha256 : str
        Of the image file's bytes.
    label : str
    reviewer : str
        Name of the key that was signed in with.
    fingerprint : str
        Of the extractor that made the embedding.
    bundle : str
        Identity of the bundle that had judged the image.
    probability : float
        What it had said.
    embedding : ndarray of float32, shape (spec.width,)
        As a feature file keeps it.
    image : bytes, optional
        The image file, where it may be kept.
    created : str
        ISO 8601 time in UTC; empty for now.
    """

    sha256: str
    label: str
    reviewer: str
    fingerprint: str
    bundle: str
    probability: float
    embedding: npt.NDArray[np.float32]
    image: bytes | None = None
    created: str = ""


def add_feedback(
    features: Features, records: Iterable[FeedbackRecord]
) -> tuple[Features, tuple[str, ...]]:
    """Add reviewed images to the training split.

    Of an image that was reviewed several times the latest label counts. One that is in the
    feature file already, by its hash, is not added: what is trained on must not be judged by, and
    nothing counts twice.

    Parameters
    ----------
    features : Features
    records : iterable of FeedbackRecord

    Returns
    -------
    Features
    tuple of str
        What a person should know of it.

    Raises
    ------
    FeedbackFailed
        If an embedding was made by another extractor than those of `features`.
    """
    latest = {record.sha256: record for record in records}
    for record in latest.values():
        if record.fingerprint != features.fingerprint:
            raise FeedbackFailed(
                f"the feedback on the image {record.sha256[:12]}… was embedded by the extractor "
                f"{record.fingerprint[:8]}…, the feature file by {features.fingerprint[:8]}…: "
                "give the feature file that the served bundle was fitted on"
            )
        if record.embedding.shape != features.embeddings.shape[1:]:
            raise FeedbackFailed(
                f"the feedback on the image {record.sha256[:12]}… has {record.embedding.size} "
                f"numbers, expected {features.embeddings.shape[1]}: it is damaged, delete it"
            )
    known = dict(zip(features.items.sha256.tolist(), features.items.label.tolist(), strict=True))
    new = [record for sha256, record in latest.items() if sha256 not in known]
    notes = [f"feedback: {len(new)} reviewed images are trained on"]
    if repeated := len(latest) - len(new):
        otherwise = sum(
            not same_class(known[sha256], record.label)
            for sha256, record in latest.items()
            if known.get(sha256)
        )
        notes.append(
            f"feedback: {repeated} reviewed images are in the feature file already and are used "
            f"as they are there, {otherwise} of them with another label"
        )
    if not new:
        return features, tuple(notes)
    # Keeping feedback needs no HDF5.
    from features.cache.items import COLUMNS, Items

    rows = np.asarray(features.embeddings)
    added = np.stack([record.embedding for record in new]).astype(rows.dtype)
    items = [
        [getattr(features.items, name).tolist() for name in COLUMNS],
        [
            [*range(len(rows), len(rows) + len(new))],
            [record.sha256 for record in new],
            [f"feedback/{record.sha256[:16]}" for record in new],
            [record.label for record in new],
            ["train"] * len(new),
            [""] * len(new),
            [0] * len(new),
            [0] * len(new),
        ],
    ]
    merged = Items.from_rows(
        zip(*(before + after for before, after in zip(*items, strict=True)), strict=True)
    )
    return replace(features, embeddings=np.concatenate([rows, added]), items=merged), tuple(notes)
