from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.__main__ import command
from service.settings import OPTIONS, Settings, SettingsError, variable


def test_a_field_is_an_option_and_a_variable_with_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(str(option.envvar), raising=False)
    monkeypatch.setenv("LESION_BUNDLE", "bundle")
    assert Settings.from_environment() == Settings(bundle=Path("bundle"))
    told = CliRunner().invoke(command, ["--help"]).output
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in told
        assert variable(field.name) in told


def test_a_secret_is_not_printed() -> None:
    assert "0123456789abcdef" not in repr(Settings(bundle=Path(), secret="0123456789abcdef"))  # noqa: S106
    assert "letmein" not in repr(Settings(bundle=Path(), feedback="postgresql://u:letmein@h/n"))


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_BUNDLE", "/srv/bundle")
    monkeypatch.setenv("LESION_WEIGHTS", "/srv/weights.h5")
    monkeypatch.setenv("LESION_MAX_UPLOAD_MB", "3")
    settings = Settings.from_environment()
    assert settings.bundle == Path("/srv/bundle")
    assert settings.weights == Path("/srv/weights.h5")
    assert settings.max_upload_bytes == 3 * 1024 * 1024


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "eighty"), ("THREADS", "0"), ("MAX_UPLOAD_MB", "-1")]
)
def test_a_bad_variable_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_BUNDLE", "bundle")
    monkeypatch.setenv(f"LESION_{name}", value)
    with pytest.raises(SettingsError, match=value):
        Settings.from_environment()


def test_a_bundle_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LESION_BUNDLE", raising=False)
    with pytest.raises(SettingsError, match="--bundle"):
        Settings.from_environment()
