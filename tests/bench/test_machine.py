"""What this client runs on."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

import pytest

from bulkstow.bench import machine


def test_the_machine_is_told_without_its_name() -> None:
    """A result is passed on: what matters for its figures, and nothing of whose machine it was."""
    words = machine.described()
    assert f"{machine.cores()} cores, Python {platform.python_version()}" in words
    assert socket.gethostname() not in words.split()


def test_memory_grows_with_what_is_held() -> None:
    """By what was taken, about."""
    before_bytes = machine.rss_bytes()
    held = bytearray(b"x") * (64 * 2**20)
    assert machine.rss_bytes() - before_bytes >= 0.9 * len(held)


def test_where_the_system_does_not_tell_it_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not everybody has a /proc."""
    monkeypatch.setattr(machine, "_STATM", Path("/gone"))
    assert machine.rss_bytes() == 0
