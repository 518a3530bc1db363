"""The pages for people."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, abort, current_app, make_response, render_template, request
from PIL import Image

from features.errors import UnreadableImage
from features.images import decode
from features.marks import MARKS
from models.notices import NOT_A_DIAGNOSIS
from service import wording
from service.api import status_of
from service.classifier import LoadedClassifier
from service.errors import wants_fragment
from service.security import REPORT_POLICY
from service.settings import Settings
from service.uploads import BadUpload, images_in

if TYPE_CHECKING:
    from models.classifier import Rejected, Verdict

__all__ = ["pages_blueprint"]

THUMBNAIL: Final = 448


def pages_blueprint(settings: Settings, classifier: LoadedClassifier) -> Blueprint:
    """Make the routes that a browser asks for."""
    blueprint = Blueprint("pages", __name__)
    for name in ("percent", "position", "sentence"):
        blueprint.add_app_template_filter(getattr(wording, name))

    @blueprint.app_context_processor
    def on_every_page() -> dict[str, Any]:
        bundle = classifier.bundle if classifier.ready else None
        return {
            "bundle": bundle,
            "flagging": wording.in_people(bundle.metrics) if bundle else None,
            "marks": {mark: MARKS[mark] for mark in bundle.marks} if bundle else {},
            "notice": NOT_A_DIAGNOSIS,
            "settings": settings,
        }

    @blueprint.get("/")
    def index() -> str:
        _ = classifier.bundle
        return render_template("index.html")

    @blueprint.post("/")
    def classify() -> Response:
        template = "_results.html" if wants_fragment() else "index.html"
        _ = classifier.bundle
        try:
            images = images_in(request, at_most=settings.max_images)
        except BadUpload as error:
            page = render_template(template, problem=str(error))
            return make_response(page, error.status)
        results = classifier.classify(images)
        cases = [_case(result, image) for result, (_, image) in zip(results, images, strict=True)]
        page = render_template(template, cases=cases)
        return make_response(page, status_of(results))

    @blueprint.get("/model")
    def model() -> str:
        return render_template("model.html", figures=wording.figures(classifier.bundle.metrics))

    @blueprint.get("/report")
    def report() -> Response:
        path = classifier.bundle.folder / "report.html"
        if not path.is_file():
            abort(404)
        response: Response = current_app.response_class(path.read_bytes(), mimetype="text/html")
        response.headers["Content-Security-Policy"] = REPORT_POLICY
        return response

    return blueprint


def _case(result: Verdict | Rejected, image: bytes) -> dict[str, Any]:
    code = getattr(result, "code", None)
    return {
        "filename": result.filename,
        "thumbnail": _thumbnail(image) if code is None else None,
        "verdict" if code is None else "rejected": result,
    }


def _thumbnail(image: bytes) -> str | None:
    """Give a ``data:`` address; by the only decoder, as it reads what browsers can't show."""
    try:
        decoded = decode(image, THUMBNAIL)
    except UnreadableImage:
        return None
    scale = THUMBNAIL / max(decoded.width, decoded.height)
    sides = max(1, round(decoded.width * scale)), max(1, round(decoded.height * scale))
    file = io.BytesIO()
    Image.fromarray(decoded.pixels).resize(sides).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
