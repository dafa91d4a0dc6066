"""What this client runs on."""

from __future__ import annotations

import platform

from bulkstow.platform.process import cores


def described() -> str:
    """Return the machine in words, without its name: `Linux 6.1 x86_64, 8 cores, Python 3.12.1`."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{system}, {cores()} cores, Python {platform.python_version()}"
