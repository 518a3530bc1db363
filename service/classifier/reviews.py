"""Cases that reviewers label, and the labels that they may give."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from flask import current_app, g
from itsdangerous import BadData, URLSafeTimedSerializer

from models.inference.feedback import FeedbackRecord
from service.access.rules import access
from service.access.signing import forgiving
from service.classifier.keeping import Keeper
from service.classifier.loaded import LoadedClassifier
from service.classifier.served import Case, Served
from service.problems import Problem
from service.settings import Settings

if TYPE_CHECKING:
    from models.bundle.loading import Bundle
    from models.inference.feedback_store import FeedbackStore

__all__ = ["Reviews", "require_label", "reviewed_labels"]

# As long as somebody stays signed in.
_CASE_SECONDS: Final = 12 * 3600


class Reviews:
    """The feedback store of the process, and the tickets by which a page names a case.

    A page that shows a verdict carries what is to be recorded, signed, so that the image itself
    need not be kept anywhere until the reviewer has decided, and any process with the same secret
    can keep it: also one that serves another bundle meanwhile.

    Parameters
    ----------
    settings : Settings
    classifier : LoadedClassifier

    Raises
    ------
    FeedbackFailed
        If the store can't be opened.
    """

    def __init__(self, settings: Settings, classifier: LoadedClassifier) -> None:
        self._classifier = classifier
        self._keep_images = settings.feedback_images
        self._keeper = Keeper(_open(settings.feedback)) if settings.feedback else None

    @property
    def kept(self) -> bool:
        """Whether feedback is kept at all."""
        return self._keeper is not None

    @property
    def failing(self) -> bool:
        """Whether there is a store that does not answer, or failed when it was last asked."""
        return self._keeper is not None and self._keeper.failing

    @property
    def welcome(self) -> bool:
        """Whether who asks may record it."""
        return self.kept and access().allows("feedback")

    def ticket(self, case: Case, image: bytes, bundle: Bundle) -> str:
        """Make what a page carries to name a case."""
        row = zlib.compress(np.ascontiguousarray(case.row, "<f4").tobytes(), 1)
        return _serializer().dumps(
            {
                "sha256": hashlib.sha256(image).hexdigest(),
                "fingerprint": bundle.fingerprint,
                "bundle": bundle.identity,
                "probability": case.verdict.probability,
                "labels": reviewed_labels(bundle),
                "embedding": base64.b64encode(row).decode("ascii"),
            }
        )

    def redeem(self, ticket: str, label: str, reviewer: str) -> FeedbackRecord:
        """Read a ticket.

        Raises
        ------
        Problem
            If it was not made here, or too long ago, or the label is none of those that the page
            had beside it.
        """
        try:
            values = _serializer().loads(ticket, max_age=_CASE_SECONDS)
            row = zlib.decompress(base64.b64decode(values.pop("embedding")))
            labels = values.pop("labels")
        except (BadData, LookupError, ValueError, binascii.Error, zlib.error) as error:
            raise Problem(
                "wrong_value",
                "The case is no longer known: classify the image again, then say what it was.",
            ) from error
        require_label(label, labels)
        return FeedbackRecord(
            **values, embedding=np.frombuffer(row, "<f4"), label=label, reviewer=reviewer
        )

    def record(self, served: Served, image: bytes, case: Case, label: str) -> FeedbackRecord:
        """Make the record of an image that is at hand."""
        return FeedbackRecord(
            sha256=hashlib.sha256(image).hexdigest(),
            label=label,
            reviewer=g.key.name,
            fingerprint=served.bundle.fingerprint,
            bundle=served.bundle.identity,
            probability=case.verdict.probability,
            embedding=case.row,
            image=image if self._keep_images else None,
        )

    def keep(self, record: FeedbackRecord) -> int:
        """Write a record to the disk.

        Raises
        ------
        FeedbackFailed
            If that is not possible, or takes too long.
        """
        if self._keeper is None:
            raise LookupError("there is no feedback store")
        number = self._keeper.add(record)
        self._classifier.metrics.feedback.labels(record.label).inc()
        return number


def _open(address: str) -> FeedbackStore:
    # Imported late: a database takes a while, and most services keep no feedback.
    from models.inference.feedback_store import FeedbackStore

    return FeedbackStore(address, create=True)


def _serializer() -> URLSafeTimedSerializer:
    secret = current_app.config["SECRET_KEY"]
    return forgiving(URLSafeTimedSerializer(secret, salt="case", serializer=json))


def require_label(label: str, labels: Sequence[str]) -> None:
    """Refuse a label that is none of `labels`.

    Raises
    ------
    Problem
    """
    if label not in labels:
        raise Problem(
            "wrong_value",
            f"The field 'label' is {label[:40]!r}, expected one of {', '.join(labels)}.",
        )


def reviewed_labels(bundle: Bundle) -> list[str]:
    """Give the labels that a reviewer may choose from: those of the training images."""
    return sorted(bundle.counts.get("train", {})) or list(bundle.labels)
