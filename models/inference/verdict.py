"""What is said of an image, and what was seen of it before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from features.images.lesion import Box
from features.images.quality import Fault, Hint, Quality
from models.bundle.gallery import Similar
from models.decisions.decision import Call

__all__ = [
    "Note",
    "NoteKind",
    "Picture",
    "Reason",
    "ReasonKind",
    "Rejected",
    "Scales",
    "Verdict",
    "doubted",
]

ReasonKind = Literal["in_zone", "unlike", Fault]
NoteKind = Literal[
    "untrained",
    "synthetic",
    Hint,
    "decoding",
    "not_taken",
    "not_known",
    "trained_on",
    "no_map",
    "part_map",
]
Scales = tuple[npt.NDArray[np.uint8], ...]


@dataclass(frozen=True)
class Picture:
    """A decoded image, and what was seen of it before the network.

    Parameters
    ----------
    frames : tuple of ndarray of uint8, shape (size, size, 3)
        As the network needs them.
    sha256 : str
        Of the file's bytes.
    quality : Quality
    boxes : tuple of Box
        Where in the image each frame lies.
    """

    frames: Scales
    sha256: str
    quality: Quality
    boxes: tuple[Box, ...]


class _Said:
    # To a program that asks the service it is its text.
    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, make: Callable[[type], Any]) -> Any:
        return make(str)


@dataclass(frozen=True)
class Reason(_Said):
    """Why an image can't be told.

    Parameters
    ----------
    kind : {"in_zone", "unlike", "small", "flat", "dark", "overexposed", "blurred"}
        For programs: the probability is between both classes, the image is like none that were
        trained on, or the picture is too poor.
    text : str
        A sentence for people, from `models.inference.wording`.
    """

    kind: ReasonKind
    text: str


@dataclass(frozen=True)
class Note(_Said):
    """What is to be known beside a verdict.

    Parameters
    ----------
    kind : str
        For programs: a mark of the bundle (``"untrained"``, ``"synthetic"``), a hint at the picture
        (``"patch"``, ``"hair"``), what was given of the patient and can't be used (``"not_taken"``,
        ``"not_known"``), that the very same image was trained on (``"trained_on"``), or that where
        it looked can't be shown (``"no_map"``), or is of some networks alone (``"part_map"``).
    text : str
        A sentence for people, from `models.inference.wording`.
    """

    kind: NoteKind
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a bundle says of one image; decision support, not a diagnosis.

    Parameters
    ----------
    filename : str
    label : str
        The class on whose side of the threshold the probability is.
    probability : float
        Calibrated probability of the positive class.
    threshold : float
    decision : {"suspicious", "not suspicious", "cannot tell"}
    flagged : bool
        Whether the probability is at or above the threshold: what the threshold alone says. A case
        that can't be told is to be treated as suspicious if it is.
    reasons : tuple of Reason
        Why it can't be told; empty otherwise.
    warnings : tuple of Note
        To be shown beside it.
    classes : dict of str to float, optional
        Probability of every class, the most likely first, where the bundle tells more than two
        apart. They sum to 1, and that of the positive class is `probability`.
    inputs : dict of str to (float or str), optional
        Age, sex and site as far as they were used beside the image; then probability and threshold
        are those of the bundle's fusion.
    distance : float, optional
        How far the image lies from the training images, as of
        `models.bundle.gallery.Gallery.distance`, where the bundle keeps them.
    known : Note, optional
        Says that the very same image is among those that were trained on.
    similar : tuple of Similar
        The nearest training images, where they were asked for.
    evidence : Evidence, optional
        Where in the image the score comes from, where that was asked for.
    """

    filename: str
    label: str
    probability: float
    threshold: float
    decision: Call
    flagged: bool
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Note, ...] = ()
    classes: dict[str, float] | None = None
    inputs: dict[str, Any] | None = None
    distance: float | None = None
    known: Note | None = None
    similar: tuple[Similar, ...] = ()
    # The API's schema is made of these fields and knows no arrays: what it sends is `as_dict`.
    evidence: Any = None

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values; what is not known or was not asked for is left out."""
        values = asdict(replace(self, similar=(), evidence=None))
        for name in ("reasons", "warnings"):
            values[name] = [each.text for each in getattr(self, name)]
        values["known"] = self.known and self.known.text
        del values["similar"], values["evidence"]
        if self.similar:
            values["similar"] = [
                {"label": each.label, "distance": each.distance, "sha256": each.sha256}
                for each in self.similar
            ]
        if self.evidence is not None:
            values["evidence"] = {
                "score": self.evidence.score,
                "effect": self.evidence.effect.tolist(),
            }
        for name in ("known", "inputs", "classes", "distance"):
            if values[name] is None:
                del values[name]
        return values


@dataclass(frozen=True)
class Rejected:
    """An image that could not be read, and why.

    Parameters
    ----------
    filename : str
    code : str
        As of `features.errors.UnreadableImage`.
    message : str
    """

    filename: str
    code: str
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready values."""
        return {
            "filename": self.filename,
            "error": {"code": self.code, "message": self.message},
        }


def doubted(verdict: Verdict, *reasons: Reason) -> Verdict:
    """Say that it can't be told, if there are reasons."""
    if not reasons:
        return verdict
    return replace(verdict, decision="cannot tell", reasons=(*verdict.reasons, *reasons))
