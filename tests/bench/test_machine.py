"""What this client runs on."""

from __future__ import annotations

import platform
import socket

from bulkstow.bench import machine
from bulkstow.platform.process import cores


def test_the_machine_is_told_without_its_name() -> None:
    """A result is passed on: what matters for its figures, and nothing of whose machine it was."""
    words = machine.described()
    assert f"{cores()} cores, Python {platform.python_version()}" in words
    assert socket.gethostname() not in words.split()
