"""The memory and the disk that an upload takes for staged content, measured from outside of its process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from bulkstow.source.staging import SHARE_OF_NESTED
from tests.orthanc.command import Upload
from tests.orthanc.servers import wait_until
from tests.sources_end_to_end.held_server import held_server
from tests.sources_end_to_end.sources import REMOTE, archive_of, source_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the open files of a process are seen in /proc")

STUDIES, INSTANCES = 4, 20
ROWS, COLUMNS = 256, 1024
"""Instances of 256 KiB, 20 MiB in all."""

SPOOL_BYTES = 6 * 2**20

INSTANCE_BYTES = ROWS * COLUMNS
"""Nearly."""

PAGE_BYTES = 4096

OPTIONS = ("--progress", "none", "--batch-instances", "4", "--concurrency", "2")


def room_of_unnamed_files(process: int) -> int:
    """Return the bytes that the open files without names of a process take, in memory and on disks."""
    files: dict[tuple[int, int], int] = {}
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = str(descriptor.readlink())
            if target.startswith("/memfd:") or target.endswith(" (deleted)"):
                status = descriptor.stat()
                pages_bytes = status.st_blocks * 512 - PAGE_BYTES  # the last page of a file is not full
                files[status.st_dev, status.st_ino] = max(status.st_size, pages_bytes)
    return sum(files.values())


@pytest.mark.parametrize(
    ("kind", "processes"),
    [("tar.gz", 1), ("tar.gz", 2), ("bucket", 1), ("DICOMweb server", 1)],
)
def test_the_room_never_exceeds_the_limit(kind: str, processes: int, tmp_path: Path) -> None:
    """The spool fills while the server holds its requests, never exceeds --spool-bytes, and everything is stored."""
    archive = archive_of(STUDIES, INSTANCES, rows=ROWS, columns=COLUMNS)
    spools = tmp_path / "spool"
    spools.mkdir()
    with source_of(kind, archive, tmp_path) as source, held_server(tmp_path / "root", holds_from=1) as server:
        room = ("--spool-bytes", str(SPOOL_BYTES), "--spool-directory", str(spools))
        options = (*OPTIONS, "--processes", str(processes), *room, *source.options)
        upload = Upload(source.name, server.url, tmp_path, options, source.environment)
        full_bytes = SPOOL_BYTES if kind in REMOTE else SPOOL_BYTES // SHARE_OF_NESTED
        samples = [0]
        with upload.running() as running:

            def has_ended() -> bool:
                with suppress(FileNotFoundError, PermissionError):  # it ends
                    samples.append(room_of_unnamed_files(running.process.pid))
                return running.process.poll() is not None

            wait_until(lambda: has_ended() or samples[-1] > full_bytes - 2 * INSTANCE_BYTES, "the spool to be full")
            assert running.process.poll() is None
            server.open()
            wait_until(has_ended, "the end")
            ended = running.wait()
        assert ended.status == 0, ended.says
        assert max(samples) <= SPOOL_BYTES
        assert server.storage.digests() == archive.digests
        assert not any(spools.iterdir())
