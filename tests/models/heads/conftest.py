from __future__ import annotations

import pytest

import features.cache.rows
from tests.models.data.blocks import D


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty-one rows of the embeddings at a time, so that none of the parts is a whole number."""
    monkeypatch.setattr(features.cache.rows, "BLOCK_BYTES", 4 * D * 41)
