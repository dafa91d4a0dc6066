"""Sources whose content is fetched or in containers: how the stages pass it on, and how room in the spool is used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from bulkstow import Summary, UploadSettings
from bulkstow.blocking import ReadLimit
from bulkstow.config import SelectionSettings
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.errors import HeadError
from bulkstow.ledger import read_entries
from bulkstow.model import Batch, Candidate, Container, Exchange, FileResult, Instance, Outcome, Response
from bulkstow.pipeline.comparison import compare
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Destination, Found, Room, Segment
from bulkstow.progress.display import display
from bulkstow.progress.tally import Tally
from bulkstow.source.extents import open_extent
from bulkstow.source.spool import Spool
from bulkstow.source_settings import SourceSettings
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.memory_source import MemorySource
from tests.test_library import Memory

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0


def instance_bytes(number: int, *, study: int = 1) -> bytes:
    """Return a synthetic instance."""
    return part10(header(number, study=study), rows=16, columns=16, number=number)


SIZE_BYTES = len(instance_bytes(1))


class Staged(MemorySource):
    """Contents that are sent from the spool; notes those that are fetched and released."""

    def __init__(self, contents: dict[str, bytes], spool: Spool) -> None:
        super().__init__(contents)
        self.spool = spool
        self.most_used_bytes = 0
        self.staged: list[str] = []
        self.released: list[str] = []

    def stage(self, candidate: Candidate, content: bytes) -> Candidate:
        """Return a candidate with its content in room that is reserved."""
        kept = self.spool.begin(len(content))
        kept.write(content)
        self.most_used_bytes = max(self.most_used_bytes, self.spool.used_bytes)
        self.staged.append(candidate.location)
        return replace(candidate, extent=kept.finish())

    def open(self, instance: Instance) -> Generator[Segment]:  # type: ignore[override]
        """Yield the staged content, or that at the location."""
        extent = instance.candidate.extent
        return super().open(instance) if extent is None else open_extent(extent, by_link=False)

    def verify(self, instance: Instance) -> str:
        """Return whether the content is gone from the spool, or changed at its location."""
        extent = instance.candidate.extent
        if extent is None:
            return super().verify(instance)
        return "" if Path(extent.path).exists() else "gone"

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Free the room of candidates."""
        for candidate in candidates:
            self.released.append(candidate.location)
            if candidate.extent is not None:
                self.spool.release(candidate.extent)

    async def until_full(self) -> None:
        """Return when a candidate waits for room."""
        await self.spool.until_full()


class Fetched(Staged):
    """Contents on another machine."""

    @property
    def is_fetched(self) -> bool:
        """They have to be fetched."""
        return True

    async def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found], None]:
        """Stage each; a content that is empty cannot be fetched."""
        for candidate in candidates:
            content = self.contents[candidate.location.removeprefix("memory:")]
            if not content:
                yield [FileResult(candidate, None, Outcome.UNREADABLE, "HTTP 500")]
                continue
            await self.spool.reserve(len(content))
            yield [self.stage(candidate, content)]


class Boxes(Staged):
    """Contents whose names end with a slash are containers of those whose names begin with theirs."""

    def scan(self) -> Iterator[Sequence[Found]]:
        """Yield the contents that are in no container."""
        names = [name for name in self.contents if "/" not in name.removesuffix("/")]
        yield [Candidate(f"memory:{name}", len(self.contents[name]), "1") for name in names]

    def read_head(self, candidate: Candidate) -> Instance | Container:  # type: ignore[override]
        """Return a container, or the instance."""
        if candidate.location.endswith("/"):
            return Container(candidate, "a box")
        return super().read_head(candidate)

    def members(self, container: Container) -> Generator[Sequence[Found] | Room, None, None]:
        """Stage each member, one a list; one without content ends the container, as damage does."""
        location = container.candidate.location
        for name, content in self.contents.items():
            inner = f"memory:{name}".removeprefix(location)
            if f"memory:{name}" == location + inner and inner and "/" not in inner.removesuffix("/"):
                if not content and not inner.endswith("/"):
                    raise HeadError("damaged: it ends within a member")
                yield Room(len(content))
                yield [self.stage(Candidate(f"memory:{name}", len(content), "1"), content)]

    async def reserve(self, room: Room) -> None:
        """Wait for room."""
        await self.spool.reserve(room.size_bytes)


async def upload(
    source: Staged,
    ledger: Path,
    destination: Destination | None = None,
    *,
    selection: SelectionSettings | None = None,
    archives: Literal["yes", "no", "only"] = "yes",
    **settings: Any,
) -> Summary:
    """Upload to a destination in memory."""
    job = Job(
        source,
        destination or Memory(),
        UploadSettings(ledger=ledger, progress="none", **settings),
        selection=selection or SelectionSettings(),
        source_settings=SourceSettings(archives=archives),
    )
    with anyio.fail_after(PATIENCE_S):
        return await run(job, Tally(), display("none"), heed_signals=False)


def reasons(ledger: Path) -> dict[str, str]:
    """Return the outcome and the reason of each file by its name."""
    results = [entry.result for entry in read_entries(ledger)]
    return {r.candidate.location.removeprefix("memory:"): f"{r.outcome} {r.reason}".strip() for r in results}


async def test_what_is_fetched_is_sent_and_released_within_the_spool(tmp_path: Path) -> None:
    """Every instance arrives, a failed fetch has its reason, all content is released, and the room suffices always."""
    contents = {str(number): instance_bytes(number) for number in range(1, 41)} | {"bad": b"", "text": b"no DICOM" * 50}
    source = Fetched(contents, Spool(4 * SIZE_BYTES))
    destination = Memory()
    summary = await upload(source, tmp_path / "l.db", destination)
    assert {outcome: count for outcome, count in summary.outcomes.items() if count} == {
        Outcome.STORED: 40,
        Outcome.UNREADABLE: 1,
        Outcome.SKIPPED: 1,
    }
    assert reasons(tmp_path / "l.db")["bad"] == "unreadable HTTP 500"
    assert sorted(source.released) == sorted(f"memory:{name}" for name in contents)
    assert source.spool.used_bytes == 0
    assert source.most_used_bytes <= 4 * SIZE_BYTES


async def test_a_copy_is_compared_with_an_instance_whose_content_was_released(tmp_path: Path) -> None:
    """The first file may be sent and released before its copy is compared: then it is read at its location again."""
    content = instance_bytes(1)
    other = content[:-1] + bytes([content[-1] ^ 1])
    source = Fetched({"first": content, "same": content, "other": other}, Spool(2**20))
    same, other_one = (Instance(source.candidate(name), header(1)) for name in ("same", "other"))
    ((fetched,),) = [found async for found in source.fetch([source.candidate("first")])]
    assert isinstance(fetched, Candidate)
    first = Instance(fetched, header(1))
    threads, limit = WorkerThreads(1), ReadLimit(PATIENCE_S)
    source.release([first.candidate])
    assert await compare(same, first, source, threads, limit) is True
    assert await compare(other_one, first, source, threads, limit) is False
    source.versions["first"] = "2"
    assert await compare(same, first, source, threads, limit) is None
    threads.shutdown()
    source.spool.close()


async def test_a_second_run_fetches_only_what_is_not_settled(tmp_path: Path) -> None:
    """Stored contents are released and not fetched; failed ones are fetched again."""
    contents = {"1": instance_bytes(1), "2": b""}
    await upload(Fetched(contents, Spool(10 * SIZE_BYTES)), tmp_path / "l.db")
    source = Fetched(contents | {"2": instance_bytes(2)}, Spool(10 * SIZE_BYTES))
    source.versions["2"] = "1"
    summary = await upload(source, tmp_path / "l.db")
    assert (source.staged, sorted(source.released)) == (["memory:2"], ["memory:1", "memory:2"])
    assert (summary.settled_before, summary.outcomes[Outcome.STORED]) == (1, 2)


@pytest.mark.parametrize("settings", [{}, {"batch_bytes": None, "batch_instances": None}, {"batch_instances": 1000}])
async def test_batches_that_wait_for_more_do_not_keep_the_spool(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A spool smaller than a batch is no deadlock: open batches are closed while the source waits for room."""
    contents = {str(number): instance_bytes(number, study=number % 7 + 1) for number in range(1, 61)}
    source = Fetched(contents, Spool(3 * SIZE_BYTES))
    summary = await upload(source, tmp_path / "l.db", **settings)
    assert (summary.outcomes[Outcome.STORED], source.spool.used_bytes) == (60, 0)


async def test_members_are_looked_into_one_level_deep(tmp_path: Path) -> None:
    """Members of a container and of one in it are sent; a third level, damage and an empty one have their reasons."""
    contents = {
        "1": instance_bytes(1),
        "a/": b"box",
        "a/2": instance_bytes(2),
        "a/b/": b"box",
        "a/b/3": instance_bytes(3),
        "a/b/c/": b"box",
        "a/b/c/4": instance_bytes(4),
        "a/text": b"no DICOM" * 50,
        "d/": b"box",
        "d/5": instance_bytes(5),
        "d/6": b"",
        "e/": b"box",
    }
    source = Boxes(contents, Spool(5 * SIZE_BYTES))
    summary = await upload(source, tmp_path / "l.db")
    found = reasons(tmp_path / "l.db")
    assert {name: found.pop(name) for name in ("1", "a/2", "a/b/3", "d/5")} == dict.fromkeys(
        ("1", "a/2", "a/b/3", "d/5"), "stored"
    )
    assert found.pop("a/text").startswith("skipped not DICOM")
    assert found == {
        "a/b/c/": "unreadable a box in an archive in an archive, which was not looked into: unpack it and send the "
        "files inside",
        "d/": "unreadable damaged: it ends within a member",
        "e/": "skipped a box without files",
    }
    assert sum(summary.outcomes.values()) == len(found) + 5
    assert source.spool.used_bytes == 0


async def test_many_containers_share_a_small_spool(tmp_path: Path) -> None:
    """Containers that are looked into at once wait for room one after the other, and each gives all its members."""
    contents: dict[str, bytes] = {}
    for box in range(1, 31):
        contents |= {f"{box}/": b"box"} | {f"{box}/{n}": instance_bytes(3 * box + n, study=box) for n in range(3)}
    source = Boxes(contents, Spool(4 * SIZE_BYTES))
    summary = await upload(source, tmp_path / "l.db")
    assert (summary.outcomes[Outcome.STORED], sum(summary.outcomes.values())) == (90, 90)
    assert sorted(source.released) == sorted(f"memory:{name}" for name in contents)
    assert (source.spool.used_bytes, source.most_used_bytes <= 4 * SIZE_BYTES) == (0, True)


async def test_a_second_run_sends_no_member_again(tmp_path: Path) -> None:
    """Members are settled by their own locations; their staged copies from a scan are released."""
    contents = {"a/": b"box", "a/1": instance_bytes(1), "a/2": instance_bytes(2)}
    await upload(Boxes(contents, Spool(3 * SIZE_BYTES)), tmp_path / "l.db")
    source, destination = Boxes(contents, Spool(3 * SIZE_BYTES)), Memory()
    summary = await upload(source, tmp_path / "l.db", destination)
    assert (summary.settled_before, summary.requests, source.spool.used_bytes) == (2, 0, 0)


async def test_only_members_leaves_out_other_files(tmp_path: Path) -> None:
    """With `--archives only`, files outside of archives are counted as left out."""
    contents = {"1": instance_bytes(1), "text": b"no DICOM" * 50, "a/": b"box", "a/2": instance_bytes(2)}
    summary = await upload(Boxes(contents, Spool(3 * SIZE_BYTES)), tmp_path / "l.db", archives="only")
    assert dict(summary.left_out) == {"archives": 2}
    assert reasons(tmp_path / "l.db") == {"a/2": "stored"}


async def test_filters_of_names_apply_to_archives_and_exclusions_to_members_too(tmp_path: Path) -> None:
    """`--include` selects files, so also archives as a whole; `--exclude` also leaves out members."""
    contents = {"1": instance_bytes(1), "a/": b"box", "a/2": instance_bytes(2), "a/3": instance_bytes(3)}
    selection = SelectionSettings(include=("*a/",), exclude=("*3",))
    summary = await upload(Boxes(contents, Spool(3 * SIZE_BYTES)), tmp_path / "l.db", selection=selection)
    assert dict(summary.left_out) == {"include": 1, "exclude": 1}
    assert reasons(tmp_path / "l.db") == {"a/2": "stored"}


async def test_newest_waits_for_the_members_too(tmp_path: Path) -> None:
    """With `--on-conflict newest` every member is known before the first file is sent."""
    contents = {
        "1": instance_bytes(1),
        "a/": b"box",
        "a/2": instance_bytes(2),
        "a/b/": b"box",
        "a/b/3": instance_bytes(3),
    }
    await upload(Boxes(contents, Spool(5 * SIZE_BYTES)), tmp_path / "l.db", on_conflict="newest")
    assert reasons(tmp_path / "l.db") == dict.fromkeys(("1", "a/2", "a/b/3"), "stored")


class Refusing(Memory):
    """A server that is not there for the first requests."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def send(self, batch: Batch) -> Exchange:
        """Fail three times."""
        self.asked += 1
        return Response(503, b"", retry_after_s=0.01) if self.asked <= 3 else await super().send(batch)


async def test_retries_do_not_fetch_again(tmp_path: Path) -> None:
    """Content in the spool stays there until it is stored."""
    contents = {str(number): instance_bytes(number) for number in range(1, 11)}
    source = Fetched(contents, Spool(20 * SIZE_BYTES))
    summary = await upload(source, tmp_path / "l.db", Refusing())
    assert (summary.outcomes[Outcome.STORED], len(source.staged)) == (10, 10)
