"""The application: settings and a classifier in, a Flask object out."""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from service import errors, security
from service.api import api_blueprint
from service.classifier import LoadedClassifier
from service.monitoring import monitoring_blueprint
from service.pages import pages_blueprint
from service.settings import Settings
from service.uploads import MemoryRequest

__all__ = ["create_app"]


class _OrderedJSON(DefaultJSONProvider):
    # A person who reads an answer finds the results before what is said about the model.
    sort_keys = False


class _Application(Flask):
    request_class = MemoryRequest


def create_app(
    settings: Settings | None = None, classifier: LoadedClassifier | None = None
) -> Flask:
    """Make the WSGI application.

    Parameters
    ----------
    settings : Settings, optional
        Read from the `LESION_*` variables if not given.
    classifier : LoadedClassifier, optional
        One that the caller loads. If not given, the settings' bundle is loaded before this returns.

    Returns
    -------
    Flask

    Raises
    ------
    SettingsError
        If a variable is missing or out of range.
    BundleRefused
        If the bundle is incomplete, altered, or not reproducible here.
    """
    settings = settings or Settings.from_environment()
    if classifier is None:
        classifier = LoadedClassifier(settings.bundle, settings.weights)
        classifier.load()
    app = _Application("service")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.json = _OrderedJSON(app)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.register_blueprint(pages_blueprint(settings, classifier))
    app.register_blueprint(api_blueprint(settings, classifier))
    app.register_blueprint(monitoring_blueprint(classifier))
    errors.init_app(app, settings)
    security.init_app(app)
    return app
