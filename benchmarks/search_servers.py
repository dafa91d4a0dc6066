"""Servers for searches and retrievals: the fast server of `searchable`, and the server of `bulkstow serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.archive_uids import header_of, instance_uid
from benchmarks.processes import CHECKOUT, HOST, START_PATIENCE_S, PeerFailed, environment, measured, orthanc
from bulkstow.wire.synthetic import part10


@dataclass(frozen=True, slots=True)
class Used:
    """The processor time and the answers of a server since its start."""

    cpu_s: float
    requests: int | None = None
    """None if it does not count them."""


@dataclass(frozen=True, slots=True)
class SearchServer:
    """A DICOMweb root, and the use of its process."""

    url: str
    used: Callable[[], Used]


@contextmanager
def searchable(studies: int, instances: int, page: int) -> Iterator[SearchServer]:
    """Give a fast server of QIDO-RS with so many studies of so many instances."""
    options = ["--studies", str(studies), "--instances", str(instances), "--page", str(page)]
    command = [sys.executable, "-m", "benchmarks.searchable", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().removeprefix("PORT "))
            url = f"http://{HOST}:{port}/dicom-web"

            def used() -> Used:
                with urllib.request.urlopen(f"{url}/counts", timeout=START_PATIENCE_S) as answer:
                    counts = json.load(answer)
                return Used(counts["cpu_s"], counts["requests"])

            yield SearchServer(url, used)
        finally:
            server.stdin.close()


@contextmanager
def served(directory: Path) -> Iterator[SearchServer]:
    """Give the embedded server on a directory of instances."""
    command = [sys.executable, "-m", "bulkstow", "serve", str(directory), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment()) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline()
            url = re.search(r"http://\S+", said)
            if url is None:
                raise PeerFailed(f"{' '.join(command)}\nsays no address: {said}")
            yield SearchServer(url[0], lambda: Used(cpu_s(server.pid)))
        finally:
            server.send_signal(signal.SIGTERM)


@contextmanager
def filled_orthanc(scratch: Path, studies: int, instances: int) -> Iterator[SearchServer]:
    """Give an Orthanc with so many studies of so many small instances."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        archive, own = Path(directory) / "archive", Path(directory) / "own"
        own.mkdir()
        for study in range(studies):
            folder = archive / f"study{study:04}"
            folder.mkdir(parents=True)
            for number in range(instances):
                content = part10(header_of(study, number), rows=16, columns=16, number=number)
                (folder / instance_uid(study, number)).write_bytes(content)
        with orthanc(own) as server:
            ledger = str(own / "ledger.db")
            common = ["--url", server.url, "--ledger", ledger, "--progress", "none"]
            measured([sys.executable, "-m", "bulkstow", "upload", str(archive), *common])
            pid = server.pid
            yield SearchServer(server.url, lambda: Used(cpu_s(pid)))


def cpu_s(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
