"""What this client does by itself: a load on a sink that acknowledges at once, in a process of its own.

Owns the sink's process, and the load that finds the ceiling. Judges nothing: `trust` compares.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio

from bulkstow.bench.driver import Driver, LoadPhase
from bulkstow.bench.recorder import Measured
from bulkstow.bench.result import Ceiling, Load
from bulkstow.bench.sender import sending
from bulkstow.bench.workload import Workload
from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import login
from bulkstow.errors import BulkstowError

HOST = "127.0.0.1"
"""By its address: names and IPv6 are the user's system's affair."""

CEILING_S = 2.0
"""Hundreds of requests, on a machine that does a GB/s; three such measurements in a row lay within 5 %."""

FILL_S = 0.5
"""Connections stand and caches are warm by then."""

CONNECTIONS = 4
"""At most: this client has one event loop and one thread at work, and four requests keep both busy. With 1, 2, 4, 8 and
16 connections it did 2,400, 3,900, 4,800, 4,300 and 4,600 CT slices a second on a machine of 2 cores."""

CERTIFICATE_DAYS = "2"


@asynccontextmanager
async def sink(*options: str) -> AsyncIterator[str]:
    """Give the DICOMweb root of a sink in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "bulkstow.server.sink", *options]
    # A session of its own: Ctrl-C is for this process, which ends the sink.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    told, asked = cast("asyncio.StreamReader", process.stdout), cast("asyncio.StreamWriter", process.stdin)
    try:
        port = (await told.readline()).removeprefix(b"PORT ")
        if not port:
            raise OSError("the sink ended at once")
        yield f"http{'s' if '--tls-cert' in options else ''}://{HOST}:{int(port)}/dicom-web"
    finally:
        asked.close()
        with anyio.CancelScope(shield=True):
            await process.wait()


async def measure(like: DestinationSettings, workload: Workload, load: Load) -> Ceiling | None:
    """Return what this client does at a load when it sends as to a server `like` this; None where nothing came of it.

    Over TLS where the server is asked over TLS, if this machine has `openssl` to make a certificate with.
    """
    with tempfile.TemporaryDirectory(prefix="bulkstow-bench-") as directory:
        certificate = _certificate(Path(directory)) if like.root.startswith("https:") else None
        options = ["--tls-cert", str(certificate)] if certificate else []
        try:
            async with sink(*options) as url:
                # Nobody logs in to a sink: what the user has for the server is not shown to another.
                settings = DestinationSettings(url=url, ca_file=certificate, chunked=like.chunked)
                measured = await _loaded(settings, workload, load)
        except (BulkstowError, OSError):
            return None
    if not measured.instances or not measured.elapsed_s:
        return None
    return Ceiling(measured.instances / measured.elapsed_s, measured.size_bytes / 1e6 / measured.elapsed_s)


def has_tls(like: DestinationSettings) -> bool:
    """Return whether a sink can be asked in the way that the server is."""
    return not like.root.startswith("https:") or shutil.which("openssl") is not None


def alike(load: Load) -> Load:
    """Return the load that finds the ceiling of a load: closed, of the same batch size, on CONNECTIONS at most."""
    return Load(load.batch_instances, connections=min(load.connections or CONNECTIONS, CONNECTIONS))


async def _loaded(settings: DestinationSettings, workload: Workload, load: Load) -> Measured:
    async with sending(settings, login(settings, {}), workload) as (_, sender):
        return await Driver(LoadPhase(load, load.connections or 1, CEILING_S, FILL_S), sender).carry_out()


def _certificate(directory: Path) -> Path | None:
    """Make a certificate for this host, with its key in the same file; None where that cannot be done."""
    program = shutil.which("openssl")
    if program is None:
        return None
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {CERTIFICATE_DAYS} -subj /CN=sink"
    command = [program, *words.split(), "-addext", f"subjectAltName=IP:{HOST}"]
    made = subprocess.run([*command, "-out", certificate, "-keyout", key], capture_output=True, check=False)  # noqa: S603 - our own words
    if made.returncode:
        return None
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate
