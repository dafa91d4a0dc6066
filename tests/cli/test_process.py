"""Claims about the process of a command."""

from __future__ import annotations

import subprocess
import sys

_WATCHED = """
import builtins, gc, sys
write, builtins.print = print, lambda *_, **__: write(gc.isenabled(), gc.get_freeze_count() > 10_000, flush=True)
sys.argv = ["bulkstow", "config"]
from bulkstow.cli import main
main()
"""


def test_garbage_is_collected_while_a_command_runs() -> None:
    """The collector is on when a command prints, and passes over the objects of the start-up."""
    ended = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, timeout=60)
    assert (ended.stdout.split("\n")[0], ended.stderr) == ("True True", "")


NOT_FOR_AN_UPLOAD = {
    "aiofiles",
    "defusedxml",
    "html",
    "importlib.metadata",
    "pydicom",
    "statistics",
    "tomllib",
    "tqdm",
    "zipfile",
}


def test_an_upload_imports_only_what_it_needs() -> None:
    """A run without a terminal, TOML or XML starts without what serves them, without a server and the load tester."""
    code = "import sys, bulkstow.cli.app, bulkstow.cli.upload; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    imported = set(ended.stdout.split())
    assert "bulkstow.destination.stow" in imported
    assert imported & NOT_FOR_AN_UPLOAD == set()
    assert {name for name in imported if name.startswith(("bulkstow.server", "bulkstow.bench"))} == set()
