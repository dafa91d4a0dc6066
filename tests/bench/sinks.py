"""The sink in a process of its own, for tests that are not asynchronous."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 20


@contextmanager
def sink(*options: str) -> Iterator[str]:
    """Give the DICOMweb root of a sink, which ends with the block."""
    command = [sys.executable, "-m", "bulkstow.server.sink", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline().removeprefix('PORT '))}/dicom-web"
        finally:
            process.stdin.close()


def counts(url: str) -> dict[str, Any]:
    """Return what a sink has taken."""
    with urllib.request.urlopen(f"{url}/counts", timeout=PATIENCE_S) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
