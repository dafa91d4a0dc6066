"""A Dask cluster: the scheduler that knows the workers, and the connections to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import anyio
from distributed import Client, Scheduler
from distributed.comm import connect

from bulkstow.engine.dask_worker import CLOSE_TIMEOUT_S, OPERATION, CommStream, accept_senders, versions
from bulkstow.errors import ConfigurationError, RunStopped
from bulkstow.quantities import show_duration

LOOPBACK = "127.0.0.1"

DASK_SHARE = 0.8
"""The share of a time limit that Dask gets: its own error has the reason, ours has none."""

START_CHECK_S = 0.05
"""Interval of the checks whether all workers of this computer run; they take 2 s to start."""

END_TIMEOUT_S = 15.0
"""Time for the workers of this computer to end; Dask kills one that has not ended by itself after 4 s."""


class Unusable(Exception):
    """A worker cannot be used; the text is the reason."""


class Cluster:
    """A connection to a Dask scheduler and its workers; `timeout_s` is how long each may take to answer."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises ConfigurationError for an address that is none, and RunStopped if no scheduler answers."""
        try:
            await self._connect()
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"--dask {self.address}: {error}") from error
        except (OSError, MemoryError) as error:  # a port of another protocol seems to announce a huge message
            raise RunStopped(
                f"--dask {self.address}: no Dask scheduler answers there within {show_duration(self._timeout_s)} "
                f"({_cause(error)}); start one with `dask scheduler`, or correct the address"
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def _connect(self) -> None:
        self._client = Client(
            self.address, asynchronous=True, timeout=DASK_SHARE * self._timeout_s, set_as_default=False
        )
        try:
            with anyio.fail_after(self._timeout_s):
                await self._client
        except BaseException:
            await self._disconnect()
            raise

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await client.close()

    async def workers(self) -> frozenset[str] | None:
        """Return the addresses of the workers; None if the scheduler does not answer, which is connected to again."""
        with suppress(OSError), anyio.fail_after(self._timeout_s):
            if self._client is None or self._client.status in ("closing", "closed"):  # it has given up
                await self._connect()
            if self._client is not None:
                return frozenset(await self._client.nthreads())
        return None

    async def open(self, address: str) -> CommStream:
        """Connect to a worker. Raises Unusable if that fails, or if it has another version of bulkstow."""
        try:
            with anyio.fail_after(self._timeout_s):
                await self._prepare(address)
                security = self._client.security.get_connection_args("client") if self._client else {}
                comm = await connect(address, timeout=DASK_SHARE * self._timeout_s, **security)
                await comm.write({"op": OPERATION, "reply": False})
        except OSError as error:
            raise Unusable(f"no connection to it ({_cause(error)})") from error
        return CommStream(comm, f"worker {address}")

    async def _prepare(self, address: str) -> None:
        if self._client is None or self._client.status != "running":
            raise OSError("the scheduler does not answer")
        here = versions()
        try:
            there = (await self._client.run(accept_senders, workers=[address]))[address]
        except OSError:
            raise
        except Exception as error:  # Dask gives an error in a worker some type
            raise Unusable(f"bulkstow {here['bulkstow']} cannot be imported there ({error}); install it") from error
        if there != here:
            raise Unusable(f"it has {_shown(there)}, and this computer has {_shown(here)}; install the same")


def _shown(found: dict[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in found.items())


def _cause(error: BaseException) -> str:
    """Return the innermost reason of an error of Dask, which wraps what the system says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or "no answer in time"


@asynccontextmanager
async def local_cluster(workers: int) -> AsyncIterator[str]:
    """Run a scheduler in this process, and workers in others; yield its address.

    The workers have a session of their own, as a Ctrl-C in the terminal is for the coordinator, which drains the run.
    They end by themselves if this process is killed, as any worker does without its scheduler. Raises RunStopped if
    they do not start.
    """
    async with Scheduler(host=LOOPBACK, port=0, dashboard=False, dashboard_address=f"{LOOPBACK}:0") as scheduler:
        options = ("--nworkers", str(workers), "--nthreads", "1", "--memory-limit", "0", "--no-dashboard")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "distributed.cli.dask_worker", scheduler.address, "--host", LOOPBACK, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        try:
            while len(scheduler.workers) < workers:
                if process.returncode is not None:
                    raise RunStopped(f"--dask local: the workers do not start (exit status {process.returncode})")
                await anyio.sleep(START_CHECK_S)
            yield scheduler.address
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with anyio.CancelScope(shield=True):
        with suppress(ProcessLookupError):
            process.terminate()
        with anyio.move_on_after(END_TIMEOUT_S):
            await process.wait()
            return
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
