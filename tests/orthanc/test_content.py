"""Claims about the content of instances in a real Orthanc, compared with their files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkstow.destination import wado
from bulkstow.errors import HeadError
from bulkstow.model import Candidate, Instance
from bulkstow.source.files import FileSource
from bulkstow.verification.content_pixels import NATIVE
from bulkstow.verification.content_result import Different, Identical, SameDataSet
from bulkstow.wire.part10 import IMPLICIT_LITTLE
from tests import archives
from tests.orthanc.archives import files_below, header, synthetic
from tests.orthanc.conftest import StartOrthanc
from tests.orthanc.servers import Orthanc
from tests.verification.test_content import comparing

pytestmark = [pytest.mark.anyio, pytest.mark.orthanc]


@dataclass(frozen=True, slots=True)
class Kinds:
    """An Orthanc, and the files of the instances in it."""

    orthanc: Orthanc
    instances: tuple[Instance, ...]


def instance_in(path: str) -> Instance:
    """Return the instance in a file. Raises HeadError."""
    status = Path(path).stat()
    return archives.instance_in(FileSource(), Candidate(path, status.st_size, status.st_mtime_ns))


def replace_instance(orthanc: Orthanc, uid: str, content: bytes) -> None:
    """Delete an instance, and store another under the same UID."""
    query = json.dumps({"Level": "Instance", "Query": {"SOPInstanceUID": uid}}).encode()
    (identifier,) = json.loads(orthanc.ask("POST", "/tools/find", query).body)
    assert orthanc.ask("DELETE", f"/instances/{identifier}").status == 200
    assert orthanc.store_alone(content).status == 200


async def test_an_instance_with_other_pixels_is_found(orthanc: Orthanc, tmp_path: Path) -> None:
    """Of ten instances only the instance replaced at the server is different."""
    files = synthetic(tmp_path, studies=1)
    for path in files.values():
        assert orthanc.store_alone(path.read_bytes()).status == 200
    uid = header(1, 3).sop_instance_uid
    content = files[uid].read_bytes()
    replace_instance(orthanc, uid, content[:-1] + bytes([content[-1] ^ 1]))
    async with comparing(orthanc.url) as comparison:
        results = {each: await comparison.compare(instance_in(str(path))) for each, path in files.items()}
    assert results.pop(uid) == Different(("(7FE0,0010) PixelData",))
    assert list(results.values()) == [Identical()] * 9


@pytest.fixture(scope="module")
def kinds(start_orthanc: StartOrthanc, mixed: Path) -> Iterator[Kinds]:
    """Give an Orthanc with the first file of each instance of the mixed tree that it takes."""
    orthanc = start_orthanc()
    stored: dict[str, Instance] = {}
    for path in sorted(files_below(mixed)):
        try:
            instance = instance_in(path)
        except HeadError:
            continue
        uid = instance.header.sop_instance_uid
        if uid not in stored and uid in orthanc.store_alone(Path(path).read_bytes()).listed:
            stored[uid] = instance
    yield Kinds(orthanc, tuple(stored.values()))
    orthanc.kill()


async def test_orthanc_returns_what_it_was_sent(kinds: Kinds) -> None:
    """Orthanc returns the same bytes of all kinds of files; nothing in them is taken for a difference."""
    async with comparing(kinds.orthanc.url) as comparison:
        results = [await comparison.compare(instance) for instance in kinds.instances]
    assert len(results) > 50
    assert Counter(map(type, results)) == {Identical: len(results)}


@pytest.mark.parametrize("syntax", ["", f"; transfer-syntax={IMPLICIT_LITTLE}"])
async def test_what_orthanc_transcodes_is_the_same(kinds: Kinds, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for one transfer syntax, Orthanc transcodes to it: the same data sets, of all kinds of files.

    It cannot transcode all, and not all decoders are installed; but nothing is different.
    """
    monkeypatch.setattr(wado, "MEDIA_TYPES", (f'multipart/related; type="application/dicom"{syntax}',))
    async with comparing(kinds.orthanc.url) as comparison:
        results = [(each, await comparison.compare(each)) for each in kinds.instances]
    assert not [result for _, result in results if isinstance(result, Different)]
    native = [result for each, result in results if each.header.transfer_syntax_uid in NATIVE]
    assert {type(result) for result in native} == {Identical, SameDataSet}
