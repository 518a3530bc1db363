from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.errors import ClusterError
from features.extraction.cluster.ownership import owned
from tests.conftest import ROOT

HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from features.extraction.cluster.ownership import owned\n"
    "with owned(Path(sys.argv[1]), 2.0):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def test_a_second_run_is_refused_and_one_that_was_killed_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        told = rf"another run is at work in {re.escape(str(folder))} \(process {other.pid} on .+\)"
        with pytest.raises(ClusterError, match=told), owned(folder, 2.0):
            pass
        other.send_signal(signal.SIGKILL)
    start = time.monotonic()
    with owned(folder, 2.0) as claim:
        assert claim.compromise is None
    assert time.monotonic() - start < 1.5
    with owned(folder, 2.0):
        pass


def test_an_owner_on_another_machine_is_waited_for_until_its_claim_expires(tmp_path: Path) -> None:
    with owned(tmp_path, 1.0):
        claim = (tmp_path / ".cluster.lock").read_text()
    elsewhere = claim.replace(os.uname().nodename, "elsewhere")
    assert elsewhere != claim
    (tmp_path / ".cluster.lock").write_text(elsewhere)
    start = time.monotonic()
    with owned(tmp_path, 1.0):
        assert time.monotonic() - start >= 1.0


def test_a_place_that_can_t_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ClusterError, match="choose another place with --out"),
        owned(tmp_path / "file" / "shards"),
    ):
        pass
