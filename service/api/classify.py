"""The JSON API."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from flask import Blueprint, Response, jsonify, request

from features.presenting import NOT_A_DIAGNOSIS
from service.api.operations import FileField, TextField, operation
from service.api.uploads import BadUpload, images_in, patient_in
from service.classifier.loaded import LoadedClassifier
from service.classifier.reviews import reviewed_labels
from service.settings import Settings

if TYPE_CHECKING:
    from models.bundle.gallery import Similar
    from models.bundle.loading import Bundle

__all__ = ["api_blueprint", "describe", "status_of"]

# Faults of the file's kind rather than of its content.
WRONG_KIND: Final = frozenset({"not_an_image", "unsupported"})


IMAGES: Final = FileField("image", "Image files: JPEG, PNG, TIFF, WebP and others.", many=True)


PATIENT: Final = (
    TextField("age", "Years of the patient whom all images are of, 0 to 120.", optional=True),
    TextField("sex", "Of the patient: female or male.", optional=True),
    TextField(
        "site",
        "Where on the body, in the words of the training images. Age, sex and site are used where "
        "`fusion` of /api/v1/model takes them, and each may be left out.",
        optional=True,
    ),
)


SIMILAR: Final = 5


ENCODING: Final = TextField(
    "encoding", "How embeddings are written.", choices=("list", "base64"), default="list"
)


READING: Final = {
    400: "The request is not as it should be.",
    413: "Too many bytes, or too many images.",
    503: "Loading, or over capacity; see Retry-After.",
}


def api_blueprint(settings: Settings, classifier: LoadedClassifier) -> Blueprint:
    """Make the routes that every program may use that may classify."""
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

    @blueprint.post("/classify")
    @operation(
        summary="Judge images",
        description="One result for each image, in the order sent; an image that can't be read "
        "doesn't keep the others from being judged.",
        scope="classify",
        form=(IMAGES, *PATIENT),
        answers={
            200: ("Classified", "At least one image was judged."),
            415: ("Classified", "None is an image of a known format."),
            422: ("Classified", "None could be read."),
        },
        problems=READING,
    )
    def classify() -> tuple[Response, int]:
        with classifier.turn() as served:
            images = images_in(request, at_most=settings.max_images)
            results = served.classify(images, patient_in(request))
            answer = {
                "results": [result.as_dict() for result in results],
                "model": describe(served.bundle),
                "notice": NOT_A_DIAGNOSIS,
            }
        return jsonify(answer), status_of(results)

    @blueprint.post("/embed")
    @operation(
        summary="Embed images",
        description="The numbers that heads are trained on, as feature files keep them.",
        scope="classify",
        query=(ENCODING,),
        form=(IMAGES,),
        answers={
            200: ("Embedded", "At least one image was embedded."),
            415: ("Embedded", "None is an image of a known format."),
            422: ("Embedded", "None could be read."),
        },
        problems=READING,
    )
    def embed() -> tuple[Response, int]:
        write = _ENCODINGS[choice(ENCODING)]
        with classifier.turn() as served:
            images = images_in(request, at_most=settings.max_images)
            found = served.embed(images)
            spec = served.bundle.spec
            answer = {
                "results": [
                    {"filename": name, "embedding": write(row)}
                    if isinstance(row, np.ndarray)
                    else row.as_dict()
                    for (name, _), row in zip(images, found, strict=True)
                ],
                "dim": spec.width,
                "fingerprint": spec.fingerprint,
                "model": describe(served.bundle),
            }
        return jsonify(answer), status_of(found)

    @blueprint.post("/similar")
    @operation(
        summary="Find similar training images",
        description=f"The {SIMILAR} whose embeddings are nearest, with their labels. They are for "
        "comparing by eye: verdicts are not made from them.",
        scope="classify",
        form=(IMAGES,),
        answers={
            200: ("Compared", "At least one image was compared."),
            415: ("Compared", "None is an image of a known format."),
            422: ("Compared", "None could be read."),
        },
        problems={**READING, 404: "The bundle that is served has no gallery."},
    )
    def similar() -> tuple[Response, int]:
        with classifier.turn() as served:
            images = images_in(request, at_most=settings.max_images)
            found = served.similar(images, SIMILAR)
            answer = {
                "results": [
                    {"filename": name, "nearest": [_shown(each) for each in nearest]}
                    if isinstance(nearest, tuple)
                    else nearest.as_dict()
                    for (name, _), nearest in zip(images, found, strict=True)
                ],
                "model": describe(served.bundle),
            }
        return jsonify(answer), status_of(found)

    @blueprint.get("/model")
    @operation(
        summary="What is served, and how it was judged",
        scope="classify",
        answers={200: ("ModelAnswer", "What is known of the bundle.")},
        problems={503: READING[503]},
    )
    def model() -> Response:
        bundle = classifier.bundle
        return jsonify(
            model=describe(bundle),
            networks=[
                {
                    "name": each.name,
                    "network": each.spec.network,
                    "fingerprint": each.spec.fingerprint,
                    "trained_on": each.trained_on,
                }
                for each in bundle.networks
            ],
            created=bundle.created,
            **bundle.decision.terms(),
            metrics=bundle.metrics,
            fusion=bundle.fusion.as_dict() if bundle.fusion else None,
            counts=bundle.counts,
            reviewed_labels=reviewed_labels(bundle),
            notes=[*bundle.notes],
            limits={
                "images": settings.max_images,
                "megabytes": settings.max_upload_mb,
                "megapixels": settings.max_megapixels,
            },
            notice=NOT_A_DIAGNOSIS,
        )

    return blueprint


def describe(bundle: Bundle) -> dict[str, Any]:
    """Say which model a result is from."""
    return {
        "id": bundle.identity[:16],
        "fingerprint": bundle.spec.fingerprint[:16],
        "network": bundle.spec.network,
        "head": bundle.head_name,
        "labels": list(bundle.labels),
        "marks": list(bundle.marks),
    }


def status_of(results: Sequence[object]) -> int:
    """Choose the HTTP status: 200 if any image was classified.

    Otherwise 415 if none was an image of a supported format, else 422.
    """
    codes = {getattr(result, "code", None) for result in results}
    if None in codes:
        return 200
    return 415 if codes <= WRONG_KIND else 422


def _shown(similar: Similar) -> dict[str, Any]:
    picture = similar.thumbnail
    return {
        "label": similar.label,
        "distance": similar.distance,
        "sha256": similar.sha256,
        "thumbnail": None if picture is None else base64.b64encode(picture).decode("ascii"),
    }


def choice(parameter: TextField) -> str:
    """Read a parameter in the address.

    Raises
    ------
    BadUpload
        If it has a value that is not among its choices, or occurs twice.
    """
    values = request.args.getlist(parameter.name) or [parameter.default or ""]
    if len(values) > 1 or values[0] not in parameter.choices:
        raise BadUpload(
            "wrong_value",
            f"The parameter {parameter.name!r} is {', '.join(values)[:40]!r}, expected one of "
            f"{', '.join(parameter.choices)}.",
        )
    return values[0]


def _base64(row: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")


def _list(row: np.ndarray[Any, np.dtype[np.float32]]) -> list[float]:
    return [float(value) for value in row]


_ENCODINGS: Final = {"list": _list, "base64": _base64}
