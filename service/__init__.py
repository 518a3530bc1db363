"""The web form and the JSON API that serve a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from service.classifier.loaded import LoadedClassifier
    from service.settings import Settings

__all__ = ["create_app"]


def create_app(
    settings: Settings | None = None, classifier: LoadedClassifier | None = None
) -> Flask:
    """Make the WSGI application; see `service.app.create_app`."""
    # Imported late so that `python -m service --help` answers at once.
    from service import app

    return app.create_app(settings, classifier)
