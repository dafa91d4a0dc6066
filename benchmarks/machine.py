"""Where and with what something was measured: no figure is shown without it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("bulkstow", "aiohttp", "anyio", "uvloop", "pydicom", "dicomweb-client")
PROGRAMS = (("curl", "--version"), ("Orthanc", "--version"), ("dcmsend", "--version"))

_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def described() -> dict[str, str]:
    """Return the machine, the date and the versions, by what they are called."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB, Linux {platform.release()}",
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "versions": ", ".join([f"Python {platform.python_version()}", *_packages(), *_programs()]),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _packages() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return found


def _programs() -> list[str]:
    found = []
    for name, flag in PROGRAMS:
        if shutil.which(name) is None:
            found.append(f"no {name}")
            continue
        said = subprocess.run([name, flag], capture_output=True, text=True, check=False).stdout
        number = _NUMBER.search(said)
        found.append(f"{name} {number[0] if number else '?'}")
    return found
