"""Who asks, what for, and how often: keys, sign-in, rate limit, and requests from other sites."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import secrets
import time
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Request, current_app, g, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect
from itsdangerous import URLSafeTimedSerializer
from limits import RateLimitItemPerMinute, parse_many

from service.access.counting import Counter
from service.access.keys import Key, KeyRing
from service.access.signing import forgiving
from service.problems import Problem
from service.settings import Settings

__all__ = ["Access", "Refused", "access", "check_form", "init_app"]

logger = logging.getLogger(__name__)

# What has effects beyond the answer is for those who are known, even on this machine alone.
_ALWAYS_KEYED: Final = frozenset({"feedback", "admin"})
_WRONG_KEYS: Final = RateLimitItemPerMinute(10)
_UNLIMITED: Final = ("/healthz", "/readyz", "/metrics", "/static/")
_SIGNED_IN_SECONDS: Final = 12 * 3600
_FOREIGN: Final = frozenset({"cross-site", "same-site"})


class Refused(Problem):
    """A request that may not be made by who makes it."""


class _Sessions(SecureCookieSessionInterface):
    _told = False

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        found = super().get_signing_serializer(app)
        return None if found is None else forgiving(found)

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        found = super().open_session(app, request)
        # Anybody may send such a cookie, so that it is told once.
        if not (found or self._told) and request.cookies.get(self.get_cookie_name(app)):
            self._told = True
            logger.warning(
                "a browser came with a cookie that was signed with another secret, or long ago: "
                "where several processes answer, give all of them the same --secret "
                "(LESION_SECRET); without one people sign in anew after each start"
            )
        return found


class Access:
    """Decides who may do what.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    LesionError
        If the keys can't be read, or the store of --rate-storage can't be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ring = KeyRing.load(settings.keys, settings.key)
        self._limits = parse_many(settings.rate_limit) if settings.rate_limit else []
        self._counter = Counter(settings.rate_storage)

    def read_keys(self) -> None:
        """Read the keys again; those that are no longer there are refused from now on.

        Raises
        ------
        LesionError
            If they can't be read: the old ones stay.
        """
        self._ring = KeyRing.load(self._settings.keys, self._settings.key)

    def needs_key(self, scope: str) -> bool:
        """Whether a key is needed at all."""
        return len(self._ring) > 0 or scope in _ALWAYS_KEYED

    @property
    def keyed(self) -> bool:
        """Whether there are keys, so that people sign in."""
        return len(self._ring) > 0

    def require(self, scope: str) -> Key | None:
        """Let the request pass if it brings a key with `scope`, or none is needed.

        Returns
        -------
        Key or None
            Whose it is.

        Raises
        ------
        Refused
        """
        key = self.caller(request)
        if not self.needs_key(scope):
            return key
        if key is None:
            raise Refused(
                "no_key",
                "This needs a key: send it as `Authorization: Bearer KEY`, or sign in on the page.",
            )
        if scope not in key.scopes:
            raise Refused(
                "wrong_scope",
                f"The key {key.name} is not for this: ask for one with the scope {scope}.",
            )
        return key

    def allows(self, scope: str) -> bool:
        """Whether `require` would let the request pass."""
        key = self.caller(request)
        return not self.needs_key(scope) or (key is not None and scope in key.scopes)

    def caller(self, asked: Request) -> Key | None:
        """Say whose key the request brings, in its header or as signed in."""
        if "key" not in g:
            header = asked.headers.get("Authorization", "")
            g.key = self._by_header(header) if header else self._by_session()
        key: Key | None = g.key
        return key

    def sign_in(self, secret: str) -> Key:
        """Remember in the browser who it is.

        Raises
        ------
        Refused
            If the key is not one that is accepted.
        """
        key = self._ring.find(secret)
        if key is None:
            raise self._wrong_key()
        session.clear()
        session["key"] = [key.name, _mark(key), int(time.time())]
        g.key = key
        return key

    def limit(self) -> None:
        """Count the request.

        Raises
        ------
        Refused
            If the same key, or address without one, asked too often.
        """
        if not self._limits or request.path.startswith(_UNLIMITED):
            return
        key = self.caller(request)
        who = f"key {key.name}" if key else _address()
        for limit in self._limits:
            wait = self._counter.hit(limit, who)
            if wait is not None:
                raise Refused(
                    "too_often",
                    f"At most {limit} are answered: ask again later.",
                    retry_after=max(1, math.ceil(wait)),
                )

    def require_near(self) -> None:
        """Refuse other machines where nothing else holds them back.

        Raises
        ------
        Refused
        """
        if self.keyed or self._settings.insecure_open or _is_local(request.remote_addr):
            return
        raise Refused(
            "not_local",
            "Without keys only this machine is answered: make one with `python -m service key`, "
            "or start the service with --insecure-open.",
        )

    def _by_header(self, header: str) -> Key | None:
        kind, _, secret = header.partition(" ")
        if kind.casefold() != "bearer" or not secret.strip():
            raise Refused(
                "no_key", "The Authorization header holds no key: send `Bearer KEY` in it."
            )
        key = self._ring.find(secret.strip())
        if key is None:
            raise self._wrong_key()
        return key

    def _by_session(self) -> Key | None:
        if not self.keyed:
            return None
        match session.get("key"):
            case [str(name), str(mark), int(since)]:
                if time.time() - since < _SIGNED_IN_SECONDS:
                    return next((k for k in self._ring if (k.name, _mark(k)) == (name, mark)), None)
        return None

    def _wrong_key(self) -> Refused:
        if self._counter.hit(_WRONG_KEYS, "wrong", _address()) is not None:
            return Refused(
                "too_often", "Too many wrong keys came from this address.", retry_after=60
            )
        return Refused("wrong_key", "This key is not known here: it was mistyped or revoked.")


def access() -> Access:
    """Give the application's access rules."""
    found: Access = current_app.extensions["access"]
    return found


def check_form() -> None:
    """Refuse a form that was not sent from a page of this service.

    Raises
    ------
    CSRFError
    """
    current_app.extensions["csrf"].protect()


def init_app(app: Flask, settings: Settings) -> Access:
    """Watch every request to `app`."""
    rules = Access(settings)
    app.extensions["access"] = rules
    app.session_interface = _Sessions()
    app.config.update(
        SECRET_KEY=settings.secret or secrets.token_hex(32),
        SESSION_COOKIE_NAME="lesion_session",
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_CHECK_DEFAULT=False,
        # The token lives as long as the cookie that it is compared with.
        WTF_CSRF_TIME_LIMIT=None,
        # Pages of this service send no referrer.
        WTF_CSRF_SSL_STRICT=False,
    )
    CSRFProtect(app)

    @app.before_request
    def watch() -> None:
        if request.path in ("/healthz", "/readyz"):
            return
        rules.require_near()
        _require_same_site(request)
        rules.limit()

    return rules


def _require_same_site(asked: Request) -> None:
    """Refuse what another site's page makes a browser send, which knows more than that site."""
    if asked.method in ("GET", "HEAD", "OPTIONS"):
        return
    site = asked.headers.get("Sec-Fetch-Site")
    origin = asked.headers.get("Origin", "null")
    # A page that sends no referrer sends the origin "null"; its token is what speaks for it.
    foreign = site in _FOREIGN if site else origin != "null" and _host(origin) != asked.host
    if foreign:
        raise Refused(
            "cross_site",
            "The request comes from a page of another site: send it from this service's own.",
        )


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _address() -> str:
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        # One machine has as many addresses in such a network as it likes.
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _is_local(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def _mark(key: Key) -> str:
    return hashlib.sha256(key.sha256.encode()).hexdigest()[:16]
