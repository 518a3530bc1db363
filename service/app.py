"""The application: settings and a classifier in, a Flask object out."""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from werkzeug.middleware.proxy_fix import ProxyFix

from features.presenting import on_a_page
from service import errors
from service.access import headers as security
from service.access import rules as access
from service.access.sign_in import sign_in_blueprint
from service.api.classify import api_blueprint
from service.api.feedback import feedback_blueprint
from service.api.health import monitoring_blueprint
from service.api.reload import admin_blueprint
from service.api.uploads import MemoryRequest
from service.classifier.loaded import LoadedClassifier
from service.classifier.reviews import Reviews
from service.pages.docs import docs_blueprint
from service.pages.routes import pages_blueprint
from service.settings import Settings
from service.telemetry import logs, tracing

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
    LesionError
        If the API keys or the feedback store can't be read.
    BundleRefused
        If the bundle is incomplete, altered, or not reproducible here.
    """
    if settings is None:
        settings = Settings.from_environment()
        logs.set_up(settings.log)
    if classifier is None:
        classifier = LoadedClassifier(settings)
        classifier.load()
    reviews = Reviews(settings, classifier)
    app = _Application("service", template_folder="pages/templates", static_folder="pages/static")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.json = _OrderedJSON(app)
    # Otherwise an address with two slashes is answered by a redirection.
    app.url_map.merge_slashes = False
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True, "finalize": on_a_page}
    # In this order: whoever is refused has a number too, and is counted.
    tracing.init_app(app, classifier.metrics)
    security.init_app(app)
    access.init_app(app, settings)
    errors.init_app(app, settings)
    app.register_blueprint(pages_blueprint(settings, classifier, reviews))
    app.register_blueprint(sign_in_blueprint())
    app.register_blueprint(api_blueprint(settings, classifier))
    app.register_blueprint(feedback_blueprint(settings, classifier, reviews))
    app.register_blueprint(admin_blueprint(classifier))
    app.register_blueprint(monitoring_blueprint(classifier, reviews))
    app.register_blueprint(docs_blueprint())
    if hops := settings.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    return app
