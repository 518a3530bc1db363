from __future__ import annotations

import socket
import sys
import time

import pytest

from features.errors import ClusterError
from features.extraction.cluster.connection import connected


def test_a_missing_ray_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install '\.\[cluster\]'"), connected("auto"):
        pass


@pytest.mark.parametrize("address", ["there", "ray://there:10001", "there:port", ":6379"])
def test_an_address_that_can_t_be_one_is_a_sentence(address: str) -> None:
    pytest.importorskip("ray.data")
    with pytest.raises(ClusterError, match="expected auto or the HOST:PORT"), connected(address):
        pass


@pytest.mark.slow
def test_where_nothing_answers_a_sentence_comes_soon(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray.data")
    with socket.socket() as mute:
        # It takes connections and says nothing.
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        for port in (1, mute.getsockname()[1]):
            start = time.monotonic()
            told = f"no Ray cluster answers at 127.0.0.1:{port}: start one"
            with pytest.raises(ClusterError, match=told), connected(f"127.0.0.1:{port}"):
                pass
            assert time.monotonic() - start < 15
    assert capfd.readouterr() == ("", "")
