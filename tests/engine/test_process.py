"""Claims about the process of a sender: what it imports."""

from __future__ import annotations

import subprocess
import sys

NOT_FOR_A_SENDER = {
    "aiofiles",
    "defusedxml",
    "filelock",
    "importlib.metadata",
    "pydicom",
    "sqlite3",
    "statistics",
    "tqdm",
}
OF_THE_COORDINATOR = (
    "bulkstow.cli",
    "bulkstow.ledger",
    "bulkstow.pipeline.run",
    "bulkstow.progress",
    "bulkstow.server",
)


def test_a_sender_imports_only_what_sending_needs() -> None:
    """Neither the ledger nor the display, nor what they use: each sender takes that time of a processor."""
    code = "import sys; from bulkstow.engine import process, sender; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    imported = set(ended.stdout.split())
    assert "bulkstow.destination.stow" in imported
    assert imported & NOT_FOR_A_SENDER == set()
    assert {name for name in imported if name.startswith(OF_THE_COORDINATOR)} == set()
