"""Fixtures of the command line's tests: an empty working directory, and no settings from outside."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkstow.ledger import Ledger
from tests.archives import write_instance
from tests.cli.settings import URL, Wanted


@pytest.fixture(autouse=True)
def _nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to an empty directory, and remove settings, proxies and a narrow terminal from the environment."""
    for name in os.environ:
        if name.startswith("BULKSTOW_") or name.lower().endswith("_proxy") or name == "PYTHONUNBUFFERED":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """Give the job that `upload` would run."""
    wanted = Wanted()
    monkeypatch.setattr("bulkstow.cli.upload.carry_out", wanted)
    monkeypatch.setattr("bulkstow.cli.plan.carry_out", wanted.plan)
    return wanted


@pytest.fixture
def things(tmp_path: Path) -> Iterator[None]:
    """Create the files that cases of wrong use need."""
    write_instance(tmp_path / "archive", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").write_text("not a ledger, and not TOML\n")
    for name, pragma in (("other.db", "user_version = 1"), ("future.db", "user_version = 99")):
        connection = sqlite3.connect(tmp_path / name)
        connection.execute("CREATE TABLE thing (id)")
        connection.execute(f"PRAGMA {pragma}")
        if name == "future.db":
            connection.execute(f"PRAGMA application_id = {0x53544F57}")
        connection.close()
    with Ledger(tmp_path / "used.db", URL):
        yield
