"""Claims about feeling the loop's pulse: the command is the user's, and what was felt is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, served


@pytest.mark.parametrize("source", ["archive", "nowhere"])
def test_the_pulse_is_kept_whatever_the_run_comes_to(tmp_path: Path, source: str) -> None:
    """The file has how late the loop was, each time, and the exit status is the command's."""
    write_instance(tmp_path / "archive", 1)
    late = tmp_path / "late.json"
    with served() as url:
        words = ["upload", str(tmp_path / source), "--url", url, "--ledger", str(tmp_path / "ledger.db")]
        command = [sys.executable, "-m", "benchmarks.pulse", str(late), *words]
        ended = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == (0 if source == "archive" else 2), ended.stderr
    late_s = json.loads(late.read_text())
    assert late_s or source == "nowhere"  # which may be found out before the loop was asked once
    assert all(isinstance(one_s, float) for one_s in late_s)
