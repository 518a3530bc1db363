"""Sign in with a key, and out again."""

from __future__ import annotations

from flask import (
    Blueprint,
    Response,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from service.access.rules import Refused, access, check_form

__all__ = ["sign_in_blueprint"]


def sign_in_blueprint() -> Blueprint:
    """Make the routes `/sign-in` and `/sign-out`."""
    blueprint = Blueprint("sign_in", __name__)

    @blueprint.get("/sign-in")
    def form() -> str:
        return render_template("sign_in.html")

    @blueprint.post("/sign-in")
    def sign_in() -> AnyResponse:
        check_form()
        try:
            access().sign_in(request.form.get("key", "").strip())
        except Refused as error:
            page: Response = make_response(
                render_template("sign_in.html", problem=str(error)), error.status
            )
            if error.retry_after:
                page.headers["Retry-After"] = str(error.retry_after)
            return page
        return redirect(url_for("pages.index"), 303)

    @blueprint.post("/sign-out")
    def sign_out() -> AnyResponse:
        check_form()
        session.clear()
        return redirect(url_for("sign_in.form"), 303)

    @blueprint.app_context_processor
    def on_every_page() -> dict[str, object]:
        key = access().caller(request) if access().keyed else None
        return {"keyed": access().keyed, "signed_in": key.name if key else None}

    return blueprint
