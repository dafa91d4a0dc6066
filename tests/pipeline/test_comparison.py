"""Comparing two instances of which one leaves the spool meanwhile."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.model import Container, Instance
from bulkstow.pipeline.comparison import compare
from bulkstow.source.archives import Archives
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool
from bulkstow.wire.synthetic import part10
from tests.archives import header, instance_in
from tests.source.members import draw, found
from tests.source.test_archives import tar_of

pytestmark = pytest.mark.anyio

CONTENT = part10(header(1), rows=50, columns=60, number=1)


def archive_of(path: Path, content: bytes) -> Path:
    """Write a compressed archive with one member."""
    path.write_bytes(gzip.compress(tar_of({"IM1": content})))
    return path


async def staged(source: FileSource, spool: Spool, path: Path) -> Instance:
    """Return the only member of a compressed archive, which is in a file of the spool."""
    container = source.read_head(found(path))
    assert isinstance(container, Container)
    drawn = await draw(source.members(container), spool, container.candidate)
    return instance_in(source, drawn.candidates["IM1"])


@pytest.mark.parametrize(
    ("content", "is_there", "expected"),
    [(CONTENT, True, True), (CONTENT[:-1] + b"?", True, False), (CONTENT, False, None)],
    ids=["equal", "different", "gone"],
)
async def test_an_instance_that_has_left_the_spool_is_read_at_its_source(
    tmp_path: Path, content: bytes, *, is_there: bool, expected: bool | None
) -> None:
    """Its outcome was recorded before the comparison began, so its content is read from its archive."""
    with closing(Spool(2**16)) as spool, ThreadPoolExecutor() as threads:
        source = FileSource(spool=spool, archives=Archives(spool))
        other = await staged(source, spool, archive_of(tmp_path / "a.tgz", CONTENT))
        instance = await staged(source, spool, archive_of(tmp_path / "b.tgz", content))
        source.release([other.candidate])
        if not is_there:
            archive_of(tmp_path / "a.tgz", b"")
        assert await compare(instance, other, source, threads, ReadLimit(60)) is expected
