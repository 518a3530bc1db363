from __future__ import annotations

from pathlib import Path

import pytest

from features.storage.user_cache import user_cache
from models.results_cache import Kept


def test_the_variable_moves_all_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path))
    assert user_cache("networks") == tmp_path / "networks"
    assert Kept().folder == tmp_path / "searches"
    monkeypatch.setenv("LESION_CACHE", "")
    assert user_cache("networks").parent.name == "lesion-classifier"
