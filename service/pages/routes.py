"""The pages for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from features.errors import UnreadableImage
from features.numbers import probability
from features.presenting import MARKS, NOT_A_DIAGNOSIS
from service.access.headers import REPORT_POLICY
from service.access.rules import access, check_form
from service.api.classify import status_of
from service.api.uploads import BadUpload, images_in, patient_in
from service.classifier.loaded import LoadedClassifier
from service.classifier.reviews import Reviews, reviewed_labels
from service.classifier.served import Case, Served
from service.errors import wants_fragment
from service.pages import wording
from service.pages.cards import Card, card_of, look_of
from service.problems import Problem
from service.settings import Settings

if TYPE_CHECKING:
    from models.bundle.loading import Bundle
    from models.inference.verdict import Rejected

__all__ = ["pages_blueprint"]

# What a form asks for beside the verdict.
SHOW: Final = "show"
# The bundle that the page is of which sends a form.
MODEL: Final = "model"
NEIGHBOURS: Final = 5


def pages_blueprint(
    settings: Settings, classifier: LoadedClassifier, reviews: Reviews
) -> Blueprint:
    """Make the routes that a browser asks for."""
    blueprint = Blueprint("pages", __name__)
    blueprint.add_app_template_filter(probability, "percent")
    blueprint.add_app_template_filter(wording.position)
    blueprint.add_app_template_filter(wording.sentence)

    @blueprint.app_context_processor
    def on_every_page() -> dict[str, Any]:
        bundle = classifier.bundle if classifier.ready else None
        return {**_about(bundle), "notice": NOT_A_DIAGNOSIS, "settings": settings}

    @blueprint.before_request
    def sign_in_first() -> AnyResponse | None:
        if request.method == "GET" and not access().allows("classify"):
            return redirect(url_for("sign_in.form"), 303)
        access().require("classify")
        return None

    @blueprint.get("/")
    def index() -> str:
        _ = classifier.bundle
        return render_template("index.html")

    @blueprint.post("/")
    def classify() -> Response:
        template = "card/cards.html" if wants_fragment() else "index.html"
        with classifier.turn() as served:
            check_form()
            try:
                images = images_in(request, at_most=settings.max_images)
                patient = patient_in(request)
            except BadUpload as error:
                page = render_template(template, problem=str(error))
                return make_response(page, error.status)
            found = served.classify_cases(
                images,
                patient,
                similar=NEIGHBOURS if "similar" in request.form.getlist(SHOW) else 0,
                explained_next=_shows_look(served, images),
            )
            cards = _cards(served, reviews, images, found)
        # Of the bundle that judged: another may be served by now, here or where the form is from.
        of_it = _about(served.bundle)
        if reviews.welcome:
            of_it["review"] = {"labels": reviewed_labels(served.bundle)}
        if request.form.get(MODEL, now := served.bundle.identity[:16]) != now:
            of_it["replaced"] = now
        page = render_template(template, cards=cards, **of_it)
        return make_response(page, status_of(found))

    @blueprint.post("/look")
    def look() -> str:
        # The page's script asks once the verdict is shown.
        with classifier.turn() as served:
            check_form()
            ((_, image),) = images_in(request, at_most=1)
            if request.form.get(MODEL) != served.bundle.identity[:16]:
                raise Problem(
                    "wrong_value",
                    "Another model is served since the image was judged: classify it again.",
                )
            try:
                found = look_of(image, served.explain(image))
            except UnreadableImage as error:
                raise Problem("unreadable_image", str(error)) from error
        return render_template("card/look.html", card=found)

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

    @blueprint.get("/card")
    def card() -> str:
        # Imported late: nothing else needs it.
        from service.pages.markdown import read_markdown

        path = classifier.bundle.folder / "MODEL_CARD.md"
        if not path.is_file():
            abort(404)
        return render_template("card.html", text=read_markdown(path.read_text(encoding="utf-8")))

    @blueprint.get("/limits")
    def limits() -> str:
        return render_template("limits.html")

    @blueprint.get("/privacy")
    def privacy() -> str:
        return render_template("privacy.html")

    return blueprint


def _about(bundle: Bundle | None) -> dict[str, Any]:
    """Give what pages say of a bundle."""
    fused = bundle.fusion if bundle else None
    return {
        "bundle": bundle,
        "flagging": wording.in_people(bundle.metrics) if bundle else None,
        "flagging_with": wording.in_people(fused.metrics) if fused else None,
        "marks": {mark: MARKS[mark] for mark in bundle.marks} if bundle else {},
    }


def _shows_look(served: Served, images: Sequence[object]) -> bool:
    # It takes as long as a verdict for each: the page's script sends them one by one.
    wanted = len(images) == 1 and "evidence" in request.form.getlist(SHOW)
    return wanted and served.bundle.spec.spread


def _cards(
    served: Served,
    reviews: Reviews,
    images: Sequence[tuple[str, bytes]],
    found: Sequence[Case | Rejected],
) -> list[Card]:
    look = _shows_look(served, images)
    later = look and wants_fragment()
    welcome = reviews.welcome
    cards = []
    for one, (_, image) in zip(found, images, strict=True):
        evidence = ticket = None
        if isinstance(one, Case):
            evidence = served.explain(image) if look and not later else None
            ticket = reviews.ticket(one, image, served.bundle) if welcome else None
        cards.append(
            card_of(one, image, served.bundle, evidence=evidence, ticket=ticket, later=later)
        )
    return cards
