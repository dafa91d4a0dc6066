"""The client's own limit: its goodput against a sink that acknowledges at once, in a process of its own.

Starts the sink and measures against it; `validity` compares.
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
"""An address, which needs no name resolution."""

CEILING_S = 2.0
"""Hundreds of requests at 1 GB/s; three such measurements in a row were within 5 %."""

CEILING_WARM_UP_S = 0.5
"""Connections are open and caches warm by then."""

CONNECTIONS = 4
"""At most: four requests keep the event loop and a thread busy. With 1, 2, 4, 8 and 16 connections this client sent
2,400, 3,900, 4,800, 4,300 and 4,600 CT slices/s on a machine of 2 cores."""

CERTIFICATE_DAYS = "2"


@asynccontextmanager
async def sink(*options: str) -> AsyncIterator[str]:
    """Run a sink in a process of its own, and yield its DICOMweb root."""
    command = [sys.executable, "-m", "bulkstow.server.sink", *options]
    # In a session of its own, Ctrl-C does not reach the sink: this process ends it.
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
    """Return the client's ceiling at a load, sent as to a server `like` this; None where the measurement failed.

    Uses TLS where the server does, if this machine has `openssl` to make a certificate with.
    """
    with tempfile.TemporaryDirectory(prefix="bulkstow-bench-") as directory:
        certificate = _certificate(Path(directory)) if like.root.startswith("https:") else None
        options = ["--tls-cert", str(certificate)] if certificate else []
        try:
            async with sink(*options) as url:
                # The sink gets no credentials: those of the user are for the server alone.
                settings = DestinationSettings(url=url, ca_file=certificate, chunked=like.chunked)
                measured = await _loaded(settings, workload, load)
        except (BulkstowError, OSError):
            return None
    if not measured.instances or not measured.elapsed_s:
        return None
    return Ceiling(measured.instances / measured.elapsed_s, measured.size_bytes / 1e6 / measured.elapsed_s)


def has_tls(like: DestinationSettings) -> bool:
    """Return whether a sink can be reached by the same protocol as the server."""
    return not like.root.startswith("https:") or shutil.which("openssl") is not None


def alike(load: Load) -> Load:
    """Return the closed load that finds the ceiling of a load: the same batch size, CONNECTIONS at most."""
    return Load(load.batch_instances, connections=min(load.connections or CONNECTIONS, CONNECTIONS))


async def _loaded(settings: DestinationSettings, workload: Workload, load: Load) -> Measured:
    async with sending(settings, login(settings, {}), workload) as (_, sender):
        return await Driver(LoadPhase(load, load.connections or 1, CEILING_S, CEILING_WARM_UP_S), sender).carry_out()


def _certificate(directory: Path) -> Path | None:
    """Make a certificate for this host, with its key in the same file; None where that fails."""
    program = shutil.which("openssl")
    if program is None:
        return None
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {CERTIFICATE_DAYS} -subj /CN=sink"
    command = [program, *words.split(), "-addext", f"subjectAltName=IP:{HOST}"]
    made = subprocess.run([*command, "-out", certificate, "-keyout", key], capture_output=True, check=False)  # noqa: S603 - no argument from outside
    if made.returncode:
        return None
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate
