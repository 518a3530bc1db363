from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service import create_app
from service.access.keys import Key, KeyRing, KeysError, make_key
from service.classifier.loaded import LoadedClassifier
from service.settings import Settings
from tests.conftest import ROOT
from tests.service.asking import Keys, Server, lesion_jpeg, run_service

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def guarded(bundle: Path, start: Start, keys: Keys) -> Server:
    return start(bundle, "--keys", str(keys.file), "--trusted-proxies", "1")


def key_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "key", *words],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


def test_a_key_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    run = key_command("anna", "--scope", "classify", "--scope", "feedback", "--file", str(file))
    assert run.returncode == 0
    key = run.stdout.strip()
    assert re.fullmatch(r"lesion_[\w-]{43}", key)
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in file.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in file.read_text()
    found = KeyRing.load(file, []).find(key)
    assert found
    assert (found.name, found.scopes) == ("anna", {"classify", "feedback"})
    again = key_command("anna", "--file", str(file))
    assert again.returncode == 1
    assert again.stdout == ""
    assert "two API keys are called anna" in again.stderr


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "x" * 65, "../x"])
def test_a_name_that_would_not_survive_the_file_is_refused(name: str) -> None:
    with pytest.raises(KeysError, match="expected up to 64"):
        make_key(name, ["classify"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("anna:classify:abc", "not of the form"),
        ("anna", "not of the form"),
        (f"anna:everything:{'0' * 64}", "'everything', expected classify"),
        (f"anna::{'0' * 64}", "not of the form"),
    ],
)
def test_a_bad_line_of_keys_is_one_sentence(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(line)
    run = run_service("--bundle", tmp_path, "--port", "0", "--keys", file)
    assert run.returncode == 1
    assert words in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_keys_survive_being_written_and_read() -> None:
    key, kept = make_key("ward-7", ["feedback", "classify"])
    assert Key.parse(kept.line) == kept
    assert KeyRing([kept]).find(key) == kept
    assert KeyRing([kept]).find(key[:-1]) is None
    assert KeyRing([kept]).find("\udcff") is None


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", "Bearer \xff", "Bearer a b"])
def test_without_a_right_key_nothing_is_classified(
    guarded: Server, lesion: bytes, header: str
) -> None:
    headers = {"Authorization": header} if header else {}
    answer = guarded.classify(("mole.jpg", lesion), **headers)
    assert answer.status in (401, 429)
    assert answer.json["code"] in ("no_key", "wrong_key", "too_often")
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/api/v1/classify", "classify"),
        ("POST", "/api/v1/embed", "classify"),
        ("GET", "/api/v1/model", "classify"),
        ("POST", "/api/v1/feedback", "feedback"),
        ("GET", "/metrics", "metrics"),
        ("POST", "/api/v1/reload", "admin"),
    ],
)
def test_a_key_opens_what_it_is_for_and_nothing_else(
    guarded: Server, keys: Keys, method: str, path: str, scope: str
) -> None:
    for name in ("classify", "feedback", "metrics", "admin"):
        answer = guarded.ask(method, path, None, keys.header(name))
        if name == scope:
            assert answer.status not in (401, 403)
        else:
            assert (answer.status, answer.json["code"]) == (403, "wrong_scope")


@pytest.mark.parametrize("path", ["/api/v1/reload", "/api/v1/feedback"])
def test_what_has_effects_needs_a_key_even_where_there_are_none(server: Server, path: str) -> None:
    answer = server.ask("POST", path)
    assert (answer.status, answer.json["code"]) == (401, "no_key")


def test_guessing_keys_is_slowed_down_and_right_ones_work_meanwhile(
    bundle: Path, start: Start, keys: Keys
) -> None:
    server = start(bundle, "--keys", str(keys.file))
    guesses = [
        server.ask("GET", "/api/v1/model", None, {"Authorization": f"Bearer lesion_{number}"})
        for number in range(30)
    ]
    assert [guess.status for guess in guesses] == [401] * 10 + [429] * 20
    assert int(guesses[-1].headers["Retry-After"]) > 0
    assert server.ask("GET", "/api/v1/model", None, keys.header("classify")).status == 200
    assert keys.of["classify"] not in server.errors.read_text()


def test_a_person_signs_in_classifies_and_signs_out(
    guarded: Server, keys: Keys, lesion: bytes
) -> None:
    for path in ("/", "/model", "/report"):
        away = guarded.get(path)
        assert (away.status, away.headers["Location"]) == (303, "/sign-in")
    secret = ("key", None, keys.of["classify"].encode())
    answer = guarded.send_form("/sign-in", secret)
    assert answer.status == 303
    given = answer.headers["Set-Cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Lax" in given
    assert "Secure" not in given
    assert keys.of["classify"] not in given
    cookie = given.partition(";")[0]
    page = guarded.send_form("/", ("image", "mole.jpg", lesion), cookie=cookie)
    assert page.status == 200
    assert "classify</a>" in page.text
    assert guarded.send_form("/", ("image", "mole.jpg", lesion)).status == 401
    # The cookie opens the pages, and only with a token; the API it does not open for others.
    assert guarded.send("/", ("image", "mole.jpg", lesion), Cookie=cookie).status == 400
    out = guarded.send_form("/sign-out", cookie=cookie)
    assert out.status == 303
    cleared = out.headers["Set-Cookie"].partition(";")[0]
    assert guarded.open_page("/", cleared).answer.status == 303


def test_a_wrong_key_does_not_sign_in(bundle: Path, keys: Keys, start: Start) -> None:
    server = start(bundle, "--keys", str(keys.file))
    answers = [server.send_form("/sign-in", ("key", None, b"lesion_x")) for _ in range(12)]
    assert {answer.status for answer in answers} == {401, 429}
    assert "This key is not known here" in answers[0].text
    assert 'role="alert"' in answers[0].text


def test_a_cookie_goes_over_encrypted_connections_only_where_there_are_any(
    guarded: Server,
) -> None:
    answer = guarded.ask("GET", "/sign-in", None, {"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"]


@pytest.mark.parametrize(
    ("token", "with_cookie"),
    [(None, True), ("", True), ("wrong", True), ("swapped", True), ("right", False)],
)
def test_a_form_without_its_token_is_refused(
    server: Server, lesion: bytes, token: str | None, with_cookie: bool
) -> None:
    page, other = server.open_page(), server.open_page()
    sent = {"swapped": other.token, "right": page.token}.get(token or "", token)
    parts = [] if sent is None else [("csrf_token", None, sent.encode())]
    headers = {"Cookie": page.cookie} if with_cookie else {}
    answer = server.send("/", *parts, ("image", "mole.jpg", lesion), **headers)
    assert answer.status == 400
    assert "load the page again" in answer.text
    assert "suspicious" not in answer.text.lower()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://[broken"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "null"}, 200),
    ],
)
def test_another_site_s_page_can_not_use_what_its_visitor_can(
    server: Server, lesion: bytes, headers: dict[str, str], status: int
) -> None:
    answer = server.classify(("mole.jpg", lesion), **headers)
    assert answer.status == status
    if status == 403:
        assert answer.json["code"] == "cross_site"
    assert server.ask("GET", "/", None, headers).status == 200


def test_a_rate_limit_counts_keys_and_addresses_apart(
    bundle: Path, start: Start, keys: Keys, lesion: bytes
) -> None:
    server = start(bundle, "--keys", str(keys.file), "--rate-limit", "3/minute")
    path = "/api/v1/model"
    answers = [server.ask("GET", path, None, keys.header("classify")) for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
    assert answers[-1].json["code"] == "too_often"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert server.ask("GET", path, None, keys.header("reviewer")).status == 200
    assert [server.get("/healthz").status for _ in range(5)] == [200] * 5


def test_a_rate_that_makes_no_sense_is_one_sentence(tmp_path: Path) -> None:
    run = run_service("--bundle", tmp_path, "--rate-limit", "often")
    assert run.returncode == 1
    assert "300/minute" in run.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_it_does_not_listen_to_others_without_keys(bundle: Path, host: str) -> None:
    run = run_service("--bundle", bundle, "--host", host, "--port", "0")
    assert run.returncode == 1
    assert "Without keys the service does not listen" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_it_listens_to_others_if_told_so_or_with_keys(
    bundle: Path, start: Start, keys: Keys
) -> None:
    for options in (("--insecure-open",), ("--keys", str(keys.file))):
        server = start(bundle, "--host", "0.0.0.0", *options)  # noqa: S104
        assert server.get("/readyz").status == 200
        server.stop()


def test_without_keys_other_machines_are_not_answered(tmp_path: Path) -> None:
    settings = Settings(bundle=tmp_path)
    client = create_app(settings, LoadedClassifier(settings)).test_client()
    near = client.get("/docs-that-are-not", environ_base={"REMOTE_ADDR": "::1"})
    far = client.get("/docs-that-are-not", environ_base={"REMOTE_ADDR": "10.0.0.7"})
    assert (near.status_code, far.status_code) == (404, 403)
    assert "Without keys only this machine" in far.text
    assert client.get("/healthz", environ_base={"REMOTE_ADDR": "10.0.0.7"}).status_code == 200


def test_proxies_are_believed_only_as_far_as_told(
    guarded: Server, server: Server, keys: Keys
) -> None:
    headers = {"X-Forwarded-Prefix": "/lesions", "X-Forwarded-Host": "clinic.example"}
    trusted = guarded.ask("GET", "/sign-in", None, headers)
    assert 'href="/lesions/static/style.css"' in trusted.text
    assert 'action="/lesions/sign-in"' in trusted.text
    document = guarded.ask("GET", "/api/v1/openapi.json", None, headers).json
    assert document["servers"] == [{"url": "/lesions"}]
    problem = guarded.ask("GET", "/api/v1/model", None, headers).json
    assert problem["type"] == "/lesions/docs#no_key"
    assert "lesions" not in server.ask("GET", "/", None, headers).text
    forged = {"X-Forwarded-For": "127.0.0.1", "Authorization": "Bearer x"}
    assert server.ask("GET", "/api/v1/model", None, forged).status == 401


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    run = run_service("--bundle", tmp_path, LESION_SECRET="short")  # noqa: S106
    assert run.returncode == 1
    assert "16 or more" in run.stderr
    assert "short" not in run.stderr


def test_a_key_from_the_environment_and_one_that_was_revoked(
    bundle: Path, start: Start, tmp_path: Path
) -> None:
    admin, kept_admin = make_key("admin", ["admin", "classify"])
    guest, kept_guest = make_key("guest", ["classify"])
    file = tmp_path / "keys.txt"
    file.write_text(kept_guest.line)
    server = start(
        bundle, "--keys", str(file), env={**os.environ, "LESION_KEY": kept_admin.line}
    )  # fmt: skip
    asks = {"Authorization": f"Bearer {guest}"}
    assert server.ask("GET", "/api/v1/model", None, asks).status == 200
    file.write_text("")
    reload = server.ask("POST", "/api/v1/reload", None, {"Authorization": f"Bearer {admin}"})
    assert reload.status == 200
    assert reload.json["changed"] is False
    assert server.ask("GET", "/api/v1/model", None, asks).status == 401


def test_pixels_are_limited_before_they_are_decoded(bundle: Path, start: Start) -> None:
    server = start(bundle, "--max-megapixels", "1")
    answer = server.classify(("large.jpg", lesion_jpeg(size=1200)), ("small.jpg", lesion_jpeg()))
    refused, judged = answer.json["results"]
    assert refused["error"]["code"] == "too_large"
    assert "1200 x 1200 pixels are more than the 1 megapixels" in refused["error"]["message"]
    assert "decision" in judged
