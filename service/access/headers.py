"""Headers that keep a browser from doing more with a page than it is meant for."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, request

__all__ = ["REPORT_POLICY", "init_app"]

PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# The report is one self-contained file with its styles and pictures inside, and nothing that runs.
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def init_app(app: Flask) -> None:
    """Add the headers to every answer of `app`."""
    app.after_request(_protect)


def _protect(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "geolocation=(), microphone=(), payment=(), usb=()"
    response.headers["X-Frame-Options"] = "DENY"
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    # What was seen of a patient must not stay in a browser's or a proxy's store.
    response.headers.setdefault("Cache-Control", "no-store")
    return response
