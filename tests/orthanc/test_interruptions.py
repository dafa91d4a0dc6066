"""What happens midway: stopped, killed, the server gone; in the end everything is there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.orthanc.archives import synthetic
from tests.orthanc.command import Running, Upload
from tests.orthanc.servers import Orthanc, wait_until

pytestmark = pytest.mark.orthanc

# Two hundred requests one after the other, or two at a time: there is time to come between.
SLOWLY = ("--progress", "log", "--batch-instances", "2", "--concurrency", "1")
STUDIES, INSTANCES = 4, 100


@pytest.fixture(params=["1", "3"], ids=["one process", "three processes"])
def upload(request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc) -> Upload:
    """Give an upload that takes its time."""
    synthetic(tmp_path / "archive", studies=STUDIES, instances=INSTANCES)
    return Upload(tmp_path / "archive", orthanc.url, tmp_path, (*SLOWLY, "--processes", request.param))


def wait_for_midway(orthanc: Orthanc, running: Running) -> None:
    """Wait until something is stored; fail if everything is."""
    wait_until(lambda: orthanc.count() > 0 or running.process.poll() is not None, "the first instance to be stored")
    assert orthanc.count() < STUDIES * INSTANCES


def stored_by(upload: Upload) -> frozenset[str]:
    """Return the SOP Instance UIDs that the ledger calls stored."""
    return frozenset(line["sop_instance_uid"] for line in upload.report() if line["outcome"] == "stored")


def test_stopped_midway_and_run_again(orthanc: Orthanc, upload: Upload) -> None:
    """SIGINT: 130, the ledger knows exactly what Orthanc has; run again: 0, all is there, nothing was sent twice."""
    with upload.running() as running:
        wait_for_midway(orthanc, running)
        # While Orthanc holds still the upload cannot end before it has heard the signal.
        orthanc.pause()
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: "press Ctrl-C again" in running.err.read_text(), "the word that it stops")
        orthanc.resume()
        ended = running.wait()
    assert ended.status == 130
    assert "Traceback" not in ended.says
    first = orthanc.instances()
    assert 0 < len(first) < STUDIES * INSTANCES
    assert stored_by(upload) == first
    assert not upload.summary()["complete"]

    assert upload.run().status == 0
    assert len(orthanc.instances()) == STUDIES * INSTANCES
    assert stored_by(upload) == orthanc.instances()
    assert upload.summary()["settled_before"] == len(first)
    assert upload.summary()["requests"] == (STUDIES * INSTANCES - len(first)) / 2


def test_stopped_twice_midway(orthanc: Orthanc, upload: Upload) -> None:
    """A second SIGINT ends it at once, although Orthanc does not answer; run again, all is there."""
    with upload.running() as running:
        wait_for_midway(orthanc, running)
        orthanc.pause()
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: "press Ctrl-C again" in running.err.read_text(), "the word that it stops")
        running.process.send_signal(signal.SIGINT)
        ended = running.wait()
        orthanc.resume()
    assert ended.status == 130
    assert "Traceback" not in ended.says
    assert stored_by(upload) <= orthanc.instances()

    assert upload.run().status == 0
    assert len(orthanc.instances()) == STUDIES * INSTANCES


def test_killed_midway_and_run_again(orthanc: Orthanc, upload: Upload) -> None:
    """SIGKILL: the ledger calls nothing stored that Orthanc has not; run again, all is there."""
    with upload.running() as running:
        wait_for_midway(orthanc, running)
        running.process.kill()
        running.wait()
    first = stored_by(upload)
    assert first <= orthanc.instances()
    assert len(first) < STUDIES * INSTANCES

    assert upload.run().status == 0
    assert stored_by(upload) == orthanc.instances()
    assert len(orthanc.instances()) == STUDIES * INSTANCES


def test_the_server_is_killed_and_comes_back(orthanc: Orthanc, upload: Upload) -> None:
    """Orthanc dies midway and is started again: the run goes on by itself and ends with everything stored."""
    with upload.running() as running:
        wait_for_midway(orthanc, running)
        orthanc.kill()
        orthanc.start()
        ended = running.wait()
    assert ended.status == 0, ended.says
    assert "Traceback" not in ended.says
    assert len(orthanc.instances()) == STUDIES * INSTANCES
    assert stored_by(upload) == orthanc.instances()
    assert upload.summary()["retries"] > 0
