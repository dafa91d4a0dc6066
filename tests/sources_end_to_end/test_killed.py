"""kill -9 in the middle of each kind of source: the next run completes it, and repeats only requests in flight."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkstow.errors import LedgerError
from bulkstow.ledger import read_entries
from bulkstow.model import Outcome
from tests.orthanc.command import Upload
from tests.orthanc.servers import wait_until
from tests.sources_end_to_end.held_server import held_server
from tests.sources_end_to_end.packing import missing_program
from tests.sources_end_to_end.sources import KINDS, REMOTE, archive_of, source_of

STUDIES, INSTANCES = 4, 15

BATCH, CONCURRENCY = 5, 2

HELD_FROM = 5
"""The number of the first request that gets no response before the kill."""

OPTIONS = ("--progress", "none", "--batch-instances", str(BATCH), "--concurrency", str(CONCURRENCY))


def stored_by(ledger: Path) -> set[str]:
    """Return the SOP instances that a ledger calls stored; none if it is not there yet."""
    try:
        results = [entry.result for entry in read_entries(ledger)]
    except LedgerError:
        return set()
    return {r.header.sop_instance_uid for r in results if r.header is not None and r.outcome is Outcome.STORED}


@pytest.mark.parametrize("kind", [*KINDS, "tar.gz", "gzip files"])
def test_killed_midway_and_run_again(kind: str, tmp_path: Path) -> None:
    """All instances are stored unchanged; those that the ledger had settled are neither fetched nor sent again."""
    if program := missing_program(kind):
        pytest.skip(f"the program {program} is not installed")
    archive = archive_of(STUDIES, INSTANCES)
    spools = tmp_path / "spool"
    spools.mkdir()
    with (
        source_of(kind, archive, tmp_path) as source,
        held_server(tmp_path / "root", holds_from=HELD_FROM) as server,
    ):
        options = (*OPTIONS, "--spool-directory", str(spools), *source.options)
        upload = Upload(source.name, server.url, tmp_path, options, source.environment)
        with upload.running() as running:
            wait_until(
                lambda: (
                    (server.held == CONCURRENCY and stored_by(upload.ledger) == server.answered)
                    or running.process.poll() is not None
                ),
                "the requests to be held, and the others to be recorded",
            )
            running.process.kill()
            running.wait()
        settled, fetched = stored_by(upload.ledger), len(source.fetched())
        assert 0 < len(settled) < STUDIES * INSTANCES
        assert settled == server.answered
        server.open()

        ended = upload.run()
        assert (ended.status, ended.stderr) == (0, ""), ended.says
        assert stored_by(upload.ledger) == archive.contents.keys()
        assert server.storage.digests() == archive.digests
        assert all(server.stored[uid] == 1 for uid in settled)
        assert sum(server.stored.values()) - STUDIES * INSTANCES <= CONCURRENCY * BATCH
        assert not any(spools.iterdir())
        if kind in REMOTE:
            assert set(source.fetched()[fetched:]) == archive.contents.keys() - settled
