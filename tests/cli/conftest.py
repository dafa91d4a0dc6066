"""What tests of the command line share: an empty directory to stand in, and no settings from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty directory, without settings, proxies or a narrow terminal in the environment."""
    for name in os.environ:
        if name.startswith("BULKSTOW_") or name.lower().endswith("_proxy") or name == "PYTHONUNBUFFERED":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
