"""The answers of the API, field by field: the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from models.inference.verdict import Verdict

__all__ = [
    "Classified",
    "Compared",
    "Embedded",
    "Health",
    "ModelAnswer",
    "Problem",
    "Recorded",
    "Reloaded",
]


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field(description="Where this kind of problem is explained, on this server.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What was got, what was expected, and what to do.")
    code: str = Field(description="The kind of problem, for programs.")
    request_id: str = Field(description="As in the header X-Request-ID and in the log.")


class FileProblem(BaseModel):
    """Why an image could not be read."""

    code: Literal["empty", "not_an_image", "truncated", "too_large", "unsupported", "unreadable"]
    message: str


class Unreadable(BaseModel):
    """An image that could not be read; the others are judged all the same."""

    filename: str
    error: FileProblem


class ModelName(BaseModel):
    """Which model a result is from."""

    id: str = Field(description="Beginning of the bundle's hash.")
    fingerprint: str = Field(description="Beginning of the hash of what embeds images.")
    network: str = Field(description="Of several all, with + between them.")
    head: str
    labels: list[str] = Field(description="The negative class, then the positive one.")
    marks: list[str] = Field(description="Random weights or drawn images: no result counts.")


class Classified(BaseModel):
    """One result for each image, in the order sent."""

    results: list[Verdict | Unreadable]
    model: ModelName
    notice: str = Field(description="Decision support, not a diagnosis.")


class Embedding(BaseModel):
    """The embedding of an image, as a feature file keeps it."""

    filename: str
    embedding: list[float] | str = Field(description="Numbers, or Base64 of little-endian float32.")


class Embedded(BaseModel):
    """One embedding for each image, in the order sent."""

    results: list[Embedding | Unreadable]
    dim: int = Field(description="Numbers in an embedding.")
    fingerprint: str = Field(description="Of what embeds images; feature files carry the same.")
    model: ModelName


class SimilarImage(BaseModel):
    """A training image."""

    label: str
    distance: float = Field(description="0 for the same embedding, 1 for nothing in common.")
    sha256: str
    thumbnail: str | None = Field(description="Base64 of a JPEG of at most 96 pixels a side.")


class SimilarTo(BaseModel):
    """The training images that are most like an image, nearest first."""

    filename: str
    nearest: list[SimilarImage]


class Compared(BaseModel):
    """One list for each image, in the order sent."""

    results: list[SimilarTo | Unreadable]
    model: ModelName


class Limits(BaseModel):
    """What a request may hold."""

    images: int
    megabytes: int
    megapixels: int


class Network(BaseModel):
    """A network whose embeddings the head is given."""

    name: str = Field(description="As the feature file was called.")
    network: str
    fingerprint: str = Field(description="As in its feature file.")
    trained_on: str = Field(description="Empty if that is not known.")


class ModelAnswer(BaseModel):
    """What is served, and how it was judged."""

    model: ModelName
    networks: list[Network] = Field(description="In the order of their columns.")
    created: str = Field(description="When the bundle was made, in UTC.")
    threshold: float = Field(description="At or above it an image is called suspicious.")
    threshold_rule: str
    zone: dict[str, Any] | None = Field(description="Probabilities that don't tell.")
    metrics: dict[str, Any] = Field(description="Figures by split, with intervals.")
    fusion: dict[str, Any] | None = Field(
        description="Where age, sex or site are taken: which, with their categories (`inputs`), "
        "and threshold, rule, zone and figures of verdicts that used them."
    )
    counts: dict[str, dict[str, int]] = Field(description="Images by split and label.")
    reviewed_labels: list[str] = Field(description="Labels that feedback may give.")
    notes: list[str]
    limits: Limits
    notice: str


class Recorded(BaseModel):
    """The feedback is on the disk."""

    number: int
    sha256: str = Field(description="Of the image.")
    label: str
    reviewer: str
    image_kept: bool
    model: str = Field(description="Beginning of the hash of the bundle that had judged it.")


class Reloaded(BaseModel):
    """The bundle in the folder was verified and is served from now on."""

    before: str = Field(description="Identity of the bundle that was served.")
    now: str
    changed: bool


class Health(BaseModel):
    """The state of the process."""

    status: Literal["alive", "ready", "loading", "stopping"]
    feedback: Literal["kept", "failing"] | None = Field(
        None,
        description="Of `/readyz` where feedback is kept: whether its store answered when it was "
        "last asked. One that is not used is asked every half minute.",
    )
