"""The command line for tests, in this process and in a process of its own, and servers for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.from_thread
import pytest
from aiohttp import web

from bulkstow.cli.app import status
from bulkstow.model import StoreResponse
from bulkstow.server.login import Login
from bulkstow.server.origin import Fault, Origin, ReadFault, serving
from bulkstow.server.storage import DiscardStorage, Storage

PATIENCE_S = 60
"""Time after which a process counts as hanging; a working one needs a second."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a command."""

    status: int
    out: str
    err: str

    @property
    def says(self) -> str:
        """All that it printed."""
        return self.out + self.err


def call(capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """Run a command in this process."""
    capsys.readouterr()
    exit_status = status(words)
    out, err = capsys.readouterr()
    return Ended(exit_status, out, err)


@contextmanager
def running(
    *words: str, stdout: int = subprocess.PIPE, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process of its own, and make sure that it ends with the block."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "bulkstow", *words],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), **(environment or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for the end of a process."""
    out, err = ((text or b"").decode(errors="surrogateescape") for text in process.communicate(timeout=PATIENCE_S))
    return Ended(process.returncode, out, err)


def spawn(*words: str, stdout: int = subprocess.PIPE, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command in a process of its own to its end."""
    with running(*words, stdout=stdout, environment=environment) as process:
        return end(process)


def spawn_unread(*words: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command whose standard output is a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return spawn(*words, stdout=writer, environment=environment)
    finally:
        os.close(writer)


@contextmanager
def served(
    storage: Storage | None = None,
    *,
    login: Login | None = None,
    fault: Fault | None = None,
    read_fault: ReadFault | None = None,
) -> Iterator[str]:
    """Run an origin in a thread of its own and give its URL."""
    origin = Origin(storage or DiscardStorage(), login=login, fault=fault, read_fault=read_fault)
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(origin)) as url,
    ):
        yield url


@contextmanager
def nobody() -> Iterator[str]:
    """Give a URL at which every connection is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/dicom-web"


class Says:
    """A fault that answers every store request with a status."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    async def before(self, request: web.Request, number: int) -> web.StreamResponse:
        """Answer."""
        return web.Response(status=self._answer, text="not today")

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Do nothing."""
        return response


def names_in(text: str, names: Mapping[str, str]) -> str:
    """Replace {names} by values."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text
