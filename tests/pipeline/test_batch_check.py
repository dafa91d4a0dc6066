"""Batches are verified before they are sent, if files beside theirs have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.model import Batch, Instance, Response, SourceChanged
from bulkstow.pipeline.batch_check import BatchCheck
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.changed_directories import CLEAN_LOOKS
from bulkstow.source.files import FileSource
from bulkstow.source_check import SourceCheck
from tests.archives import write_instance

pytestmark = pytest.mark.anyio


class CountingSource(FileSource):
    """Files, and how many of them were verified."""

    def __init__(self) -> None:
        super().__init__()
        self.verified = 0

    def verify(self, instance: Instance) -> str:
        """Count a verification."""
        self.verified += 1
        return super().verify(instance)


async def test_only_batches_beside_a_change_are_verified(tmp_path: Path) -> None:
    """Before a change none is; after it those of the same directory, until several in a row are unchanged."""
    lost, *others = (Batch(n, (write_instance(tmp_path / "a", n),)) for n in range(20))
    elsewhere = Batch(99, (write_instance(tmp_path / "b", 99),))
    source = CountingSource()
    with WorkerThreads(1) as threads:
        batch_check = BatchCheck(SourceCheck(source, threads, ReadLimit(60)))
        os.unlink(lost.instances[0].candidate.location)  # noqa: PTH108 - a str
        batch_check.learn(Response(200, b""))
        assert await batch_check.check(lost) is None, "nothing points to a change yet"
        batch_check.learn(SourceChanged({}, frozenset({str(tmp_path / "a")})))
        seen = await batch_check.check(lost)
        assert seen is not None
        assert seen.changed.keys() == {lost.instances[0].header.sop_instance_uid}
        assert await batch_check.check(elsewhere) is None
        source.verified = 0
        for batch in others:
            assert await batch_check.check(batch) is None
        assert source.verified == CLEAN_LOOKS
