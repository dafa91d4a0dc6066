"""The workers of a Dask cluster send everything at hand to an Orthanc, as one process does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.dask_cluster import DaskCluster
from tests.orthanc.command import Upload
from tests.orthanc.conftest import Alone, StartOrthanc

pytestmark = pytest.mark.orthanc

OPTIONS = ("--progress", "log", "--accept-missing-preamble", "--archives", "no", "--concurrency", "4")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """Give a cluster with two workers."""
    cluster = DaskCluster(tmp_path)
    try:
        cluster.keep(2)
        yield cluster
    finally:
        cluster.end()


def test_a_cluster_changes_no_outcome(
    start_orthanc: StartOrthanc, cluster: DaskCluster, mixed: Path, alone: Alone, tmp_path: Path
) -> None:
    """From one process and from two workers come the same instances, and the same outcome of every file."""
    said = []
    for name, options in (("one", ("--processes", "1")), ("two", ("--dask", cluster.address))):
        orthanc = start_orthanc()
        directory = tmp_path / name
        directory.mkdir()
        upload = Upload(mixed, orthanc.url, directory, (*OPTIONS, *options))
        ended = upload.run()
        assert ended.status == 1
        assert orthanc.instances() == alone.instances
        said.append({line["path"]: (line["outcome"], line["reason"].partition(":")[0]) for line in upload.report()})
        orthanc.kill()
    assert said[0] == said[1]
    assert "from 2 workers" in ended.stdout
