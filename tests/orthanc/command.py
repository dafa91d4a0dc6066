"""The command line as a user has it: a process, its exit status and its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.orthanc.servers import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def says(self) -> str:
        """All that it printed."""
        return self.stdout + self.stderr


@dataclass(frozen=True, slots=True)
class Upload:
    """`bulkstow upload` with a ledger and a summary of its own, as often as one likes."""

    source: Path | str
    url: str
    directory: Path
    """Where ledger and summary are: not below `source`."""
    options: tuple[str, ...] = ("--progress", "none")
    environment: Mapping[str, str] | None = None

    @property
    def ledger(self) -> Path:
        """The journal."""
        return self.directory / "ledger.db"

    @property
    def words(self) -> tuple[str, ...]:
        """The command."""
        files = ("--ledger", str(self.ledger), "--summary", str(self._summary))
        return ("upload", str(self.source), "--url", self.url, *files, *self.options)

    @property
    def _summary(self) -> Path:
        return self.directory / "summary.json"

    def run(self) -> Ended:
        """Run it to its end."""
        return bulkstow(*self.words, environment=self.environment)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run that ended last."""
        figures: dict[str, Any] = json.loads(self._summary.read_text())
        return figures

    def report(self) -> list[dict[str, Any]]:
        """Return what `bulkstow report` says of every file."""
        ended = bulkstow("report", str(self.ledger), "--format", "jsonl")
        assert (ended.status, ended.stderr) == (0, "")
        return [json.loads(line) for line in ended.stdout.splitlines()]

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Start it, and make sure that it ends with the block."""
        with (self.directory / "out").open("w+b") as out, (self.directory / "err").open("w+b") as err:
            process = subprocess.Popen(
                _command(self.words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(self.environment),
            )
            try:
                yield Running(process, Path(out.name), Path(err.name))
            finally:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class Running:
    """A process that goes on."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def wait(self) -> Ended:
        """Wait for its end."""
        status = self.process.wait(PATIENCE_S)
        return Ended(status, self.out.read_text(), self.err.read_text())


def bulkstow(*words: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run `bulkstow` with these words to its end."""
    ended = subprocess.run(
        _command(words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        env=_environment(environment),
        timeout=PATIENCE_S,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def _command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "bulkstow", *words]


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Return this process's environment without settings of bulkstow's, and with `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BULKSTOW_")} | dict(more or {})
