from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from features.embedding.doctor.stages import Rates, measure
from tests.features.embedding.pooling_run import pooling_extractor

RATES = Rates(
    read=1000.0, decode_one=50.0, decode=100.0, network=25.0, write=500.0, on_cpu=True, start=36.0
)


def test_on_a_cpu_the_stages_share_the_cores() -> None:
    assert RATES.whole == pytest.approx(1 / (0.04 + 0.01))
    assert RATES.limit == "the network"
    assert RATES.hours(3600) == pytest.approx(0.01 + 1 / RATES.whole)


def test_on_a_gpu_the_slowest_stage_decides() -> None:
    gpu = replace(RATES, on_cpu=False, network=12_000.0)
    assert gpu.whole == 100.0
    assert gpu.limit == "decoding"
    assert replace(gpu, decode=9000.0).limit == "writing embeddings"
    assert gpu.hours(360_000) == pytest.approx(0.01 + 1.0)


def test_every_stage_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    log = tmp_path / "passes"
    out = tmp_path / "out"
    out.mkdir()
    rates = measure(pooling_extractor(log, pause=0.02), out, seconds=0.2)
    # Each pass of 32 images takes at least 20 ms, and one core more than two for the same work.
    assert 0 < rates.network < 2 * 32 / 0.02
    assert log.stat().st_size >= 4
    assert min(rates.read, rates.decode_one, rates.decode, rates.write) > 0
    assert not rates.on_cpu
    assert not list(out.iterdir())
