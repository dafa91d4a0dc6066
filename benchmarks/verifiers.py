"""The peers of a verification, and one run of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.processes import Sample, measured
from benchmarks.search_servers import SearchServer

BULKSTOW, FEW, LOOP, CURL = "bulkstow verify", "bulkstow verify, a tenth", "aiohttp loop", "curl --parallel"

CONCURRENCY = 8
"""Requests at once of all peers."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a peer."""

    sample: Sample
    requests: int | None
    """None if the server does not count them."""
    instances: int
    under_way: float | None = None
    """The share of the time in which bulkstow had a request under way."""


def run_at(command: Sequence[str], server: SearchServer, instances: int, summary: Path | None = None) -> Run:
    """Run a command that reads so many instances from a server, and that may write a summary."""
    before = server.used()
    sample = measured(command)
    after = server.used()
    requests = None if after.requests is None or before.requests is None else after.requests - before.requests
    found = None if summary is None else json.loads(summary.read_text())
    under_way = found and found["waiting_s"] / found["elapsed_s"]
    return Run(replace(sample, server_cpu_s=after.cpu_s - before.cpu_s), requests, instances, under_way)


def verify_command(url: str, ledger: Path, *options: str) -> list[str]:
    """Return the command that verifies a ledger."""
    common = ["--url", url, "--ledger", str(ledger), "--progress", "none", "--settle", "0s"]
    return [sys.executable, "-m", "bulkstow", "verify", *common, "--concurrency", str(CONCURRENCY), *options]


def curl_command(config: Path, accept: str) -> list[str]:
    """Return the command that gets the URLs of a file of curl's options."""
    quiet = ["--silent", "--show-error", "--fail", "--header", f"Accept: {accept}"]
    return ["curl", *quiet, "--parallel", "--parallel-max", str(CONCURRENCY), "--config", str(config)]
