"""What went wrong, told to a program as JSON and to a person as a page."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from service.classifier import NotReady
from service.settings import Settings
from service.uploads import BadUpload

__all__ = ["init_app", "wants_fragment"]

# The page's script asks with this header for the results alone instead of a whole page.
FRAGMENT_HEADER: Final = "X-Lesion-Fragment"
_PROGRAM_PATHS: Final = ("/api/", "/healthz", "/readyz")
_SECONDS_TO_RETRY: Final = "5"

logger = logging.getLogger(__name__)


def init_app(app: Flask, settings: Settings) -> None:
    """Answer every error of `app` in the form that suits who asked."""

    @app.errorhandler(BadUpload)
    def bad_upload(error: BadUpload) -> Response:
        return _answer(error.status, error.code, str(error))

    @app.errorhandler(NotReady)
    def not_ready(error: NotReady) -> Response:
        response = _answer(503, "not_ready", str(error))
        response.headers["Retry-After"] = _SECONDS_TO_RETRY
        if response.mimetype == "text/html" and request.method == "GET":
            response.headers["Refresh"] = _SECONDS_TO_RETRY
        return response

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> Response:
        got = f"{request.content_length / 1024**2:.1f} MB" if request.content_length else "more"
        return _answer(
            413,
            "too_large",
            f"The request has {got}, at most {settings.max_upload_mb} MB are accepted: "
            "send fewer or smaller images.",
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        response = _answer(status, status.name.lower(), _sentence(error, status))
        response.headers.extend(
            (name, value)
            for name, value in error.get_headers()
            if name not in ("Content-Type", "Content-Length")
        )
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        logger.error("%s %r failed", request.method, request.path, exc_info=error)
        return _answer(
            500,
            "internal_error",
            "Something went wrong here, not with the image: try again, and tell whoever runs "
            "this service if it stays so.",
        )


def wants_fragment() -> bool:
    """Whether the page's script asks, which shows the answer inside the page."""
    return FRAGMENT_HEADER in request.headers


def _answer(status: int, code: str, message: str) -> Response:
    if request.path.startswith(_PROGRAM_PATHS):
        response = jsonify(error={"code": code, "message": message})
    else:
        template = "_error.html" if wants_fragment() else "error.html"
        title = HTTPStatus(status).phrase
        response = make_response(
            render_template(template, title=title, message=message, status=status)
        )
    response.status_code = status
    return response


def _sentence(error: HTTPException, status: HTTPStatus) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.path[:200]}."
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"OPTIONS"}))
        return f"{request.path[:200]} does not take {request.method}, expected {allowed}."
    return error.description or status.phrase
