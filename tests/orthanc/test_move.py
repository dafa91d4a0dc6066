"""From one Orthanc into another: the same instances, byte for byte, also if either of them goes away midway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.orthanc.archives import synthetic
from tests.orthanc.command import Upload, bulkstow
from tests.orthanc.conftest import StartOrthanc
from tests.orthanc.servers import Orthanc, wait_until

pytestmark = pytest.mark.orthanc

STUDIES, INSTANCES = 4, 60
SLOWLY = ("--progress", "log", "--batch-instances", "2", "--concurrency", "1")


@dataclass(frozen=True, slots=True)
class ServerUpload(Upload):
    """An upload from a server."""

    name: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The command."""
        command, _, *others = super(ServerUpload, self).words
        return (command, self.name, *others)


def upload_from(source: Orthanc, target: Orthanc, directory: Path, *options: str) -> ServerUpload:
    """Return the upload of everything in one Orthanc to another."""
    return ServerUpload(directory, target.url, directory, options or SLOWLY, name=f"dicomweb+{source.url}")


@pytest.fixture
def filled(start_orthanc: StartOrthanc, tmp_path: Path) -> Orthanc:
    """Give an Orthanc with some studies."""
    synthetic(tmp_path / "archive", studies=STUDIES, instances=INSTANCES)
    source = start_orthanc()
    (tmp_path / "fill").mkdir()
    assert Upload(tmp_path / "archive", source.url, tmp_path / "fill").run().status == 0
    assert source.count() == STUDIES * INSTANCES
    return source


def test_the_mixed_tree_moves_on(start_orthanc: StartOrthanc, mixed: Path, tmp_path: Path) -> None:
    """The second Orthanc has every instance of the mixed tree that the first has taken, and every byte is the same."""
    source, target = start_orthanc(), start_orthanc()
    (tmp_path / "fill").mkdir()
    (tmp_path / "move").mkdir()
    Upload(mixed, source.url, tmp_path / "fill").run()
    upload = upload_from(source, target, tmp_path / "move", "--progress", "none")
    ended = upload.run()
    assert ended.status == 0, ended.says
    assert target.instances() == source.instances()
    assert {line["outcome"] for line in upload.report()} == {"stored"}
    compared = bulkstow(
        *("verify", upload.name, "--url", target.url, "--ledger", str(upload.ledger)),
        *("--level", "content", "--settle", "0s", "--progress", "none"),
    )
    assert compared.status == 0, compared.says
    source.kill()
    target.kill()


def test_killed_midway_and_run_again(filled: Orthanc, orthanc: Orthanc, tmp_path: Path) -> None:
    """SIGKILL: run again, all is there."""
    upload = upload_from(filled, orthanc, tmp_path)
    with upload.running() as running:
        wait_until(lambda: orthanc.count() > 0 or running.process.poll() is not None, "the first instance")
        running.process.kill()
        running.wait()
    assert orthanc.count() < STUDIES * INSTANCES
    ended = upload_from(filled, orthanc, tmp_path, "--progress", "none").run()
    assert ended.status == 0, ended.says
    assert orthanc.instances() == filled.instances()


@pytest.mark.parametrize("lost", ["source", "target"])
def test_a_server_is_killed_and_comes_back(filled: Orthanc, orthanc: Orthanc, tmp_path: Path, lost: str) -> None:
    """Either Orthanc dies midway and is started again: the run continues by itself, and nothing is lost."""
    # With room for a few instances only, the source is needed until the end.
    upload = upload_from(filled, orthanc, tmp_path, *SLOWLY, "--spool-bytes", "100kB", "--retries", "20")
    with upload.running() as running:
        wait_until(lambda: orthanc.count() > 0 or running.process.poll() is not None, "the first instance")
        server = filled if lost == "source" else orthanc
        server.kill()
        server.start()
        ended = running.wait()
    assert ended.status == 0, ended.says
    assert "Traceback" not in ended.says
    assert orthanc.instances() == filled.instances()
