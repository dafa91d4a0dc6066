"""`bulkstow serve`: run the embedded STOW-RS origin in the foreground."""

from __future__ import annotations

import os
import ssl
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio

from bulkstow.cli.streams import print_in_passing
from bulkstow.errors import ConfigurationError
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.printing import shown
from bulkstow.quantities import require_positive
from bulkstow.server.fault_injector import FaultInjector
from bulkstow.server.fault_plan import describe, read_plan
from bulkstow.server.faults import Plan
from bulkstow.server.login import Login
from bulkstow.server.origin import ROOT, Origin, serving
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DirectoryStorage, DiscardStorage, Storage
from bulkstow.setting_types import CountLimit, SizeLimit, Switch


def serve(
    directory: Path = Path("bulkstow-origin"),
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    root: str = ROOT,
    discard: Switch = False,
    overwrite: Switch = False,
    max_part_bytes: SizeLimit = None,
    max_requests: CountLimit = None,
    max_connections: CountLimit = None,
    faults: Path | None = None,
    user: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> int:
    """Serve STOW-RS, QIDO-RS and WADO-RS from a directory, for trials and tests.

    Parameters
    ----------
    directory
        Directory for stored instances, as STUDY/SERIES/INSTANCE.dcm.
    host
        Address to listen on; by default only this machine can connect. Without --user there is no login.
    port
        Port to listen on; 0 takes a free one.
    root
        Path of the DICOMweb root.
    discard
        Store nothing, for measuring clients.
    overwrite
        Replace a stored instance when other bytes arrive under its SOP Instance UID; by default they are refused.
    max_part_bytes
        Size of the largest instance that is accepted.
    max_requests
        Limit of concurrent requests; more are answered with 503.
    max_connections
        Limit of concurrent connections; more are closed at once.
    faults
        TOML file with a table [[fault]] for each fault to inject and its conditions, for testing clients.
    user
        User of a Basic login; the password comes from BULKSTOW_PASSWORD.
    tls_cert
        Certificate (PEM) for serving over TLS.
    tls_key
        Private key (PEM) of the certificate, if it is not in the same file.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"--port {port}: expected 0 to 65535")
    limits = {"--max-part-bytes": max_part_bytes, "--max-requests": max_requests, "--max-connections": max_connections}
    for flag, limit in limits.items():
        if limit is not None:
            require_positive(flag, limit)
    plan = Plan() if faults is None else read_plan(faults)
    try:
        storage: Storage = DiscardStorage() if discard else DirectoryStorage(directory, overwrites=overwrite)
    except OSError as error:
        raise ConfigurationError(f"{directory}: instances cannot be stored there ({error.strerror})") from error
    origin = Origin(
        storage,
        root=root,
        login=_login(user),
        max_part_bytes=max_part_bytes,
        max_requests=max_requests,
        fault=FaultInjector(plan) if plan.faults else None,
        read_fault=ReadFaultInjector(plan) if plan.faults else None,
    )
    where = "instances are discarded" if discard else f"instances are stored in {directory}"
    running = serving(origin, host, port, _tls(tls_cert, tls_key), max_connections=max_connections)
    try:
        anyio.run(_serve, running, where, plan)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; try another --port"
        ) from error
    return 0


async def _serve(running: AbstractAsyncContextManager[str], where: str, plan: Plan) -> None:
    with receive_ending_signals() as signals:
        async with running as url:
            faults = [f"  fault {fault.place}: {describe(fault)}" for fault in plan.faults]
            words = [f"serving {url} ({where}); Ctrl-C ends it", *faults]
            print_in_passing("\n".join(map(shown, words)))
            async for _ in signals:
                return


def _login(user: str | None) -> Login | None:
    if user is None:
        return None
    password = os.environ.get("BULKSTOW_PASSWORD")
    if not password:
        raise ConfigurationError("--user without a password: set BULKSTOW_PASSWORD")
    return Login(users={user: password})


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigurationError(f"--tls-cert {certificate}: cannot be loaded ({error.strerror or error})") from error
    return context
