"""A Dask cluster for tests: a scheduler and workers, each a process of its own, as started by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class DaskProcess:
    """A scheduler or a worker."""

    process: subprocess.Popen[bytes]
    log: Path
    address: str

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()


class DaskCluster:
    """A scheduler with options, and as many workers as are started; `directory` is for their logs."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        self._started = 0
        self.workers: list[DaskProcess] = []
        self.scheduler = self._start_scheduler("0")

    @property
    def address(self) -> str:
        """The address of the scheduler."""
        return self.scheduler.address

    def keep(self, count: int) -> list[DaskProcess]:
        """Start or kill workers until so many run, and return them."""
        self.workers = [worker for worker in self.workers if worker.process.poll() is None]
        while len(self.workers) > count:
            self.workers.pop().kill()
        while len(self.workers) < count:
            self.start_worker()
        return self.workers

    def start_worker(
        self, *, directory: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> DaskProcess:
        """Start a worker in a directory, and wait until it is connected."""
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self._directory))
        worker = self._start(
            *("worker", self.address, *options),
            until=r"(?s)Start worker at: +(\w+://\S+).*Registered to",
            directory=directory,
            environment=environment,
        )
        self.workers.append(worker)
        return worker

    def restart(self) -> None:
        """Start another scheduler at the same address, with one worker."""
        self.scheduler = self._start_scheduler(self.address.rpartition(":")[2])
        self.keep(1)

    def end(self) -> None:
        """End all processes."""
        for process in (*self.workers, self.scheduler):
            process.kill()

    def _start_scheduler(self, port: str) -> DaskProcess:
        return self._start("scheduler", "--port", port, *self._options, until=r"Scheduler at: +(\w+://\S+)")

    def _start(
        self,
        kind: str,
        *words: str,
        until: str,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> DaskProcess:
        self._started += 1
        log = self._directory / f"{kind}-{self._started}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--host", "127.0.0.1", "--no-dashboard"],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                cwd=directory or self._directory,
                env={**os.environ, **(environment or {})},
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := re.search(until, log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline_s:
                process.kill()
                raise AssertionError(f"the {kind} does not start:\n{log.read_text()}")
            time.sleep(0.02)
        return DaskProcess(process, log, found[1])
