"""The spool: its room is never exceeded, is given in order, and comes back; contents stay as they were written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import InstanceChanged, SpoolExceeded
from bulkstow.model import Extent
from bulkstow.source.extents import open_extent
from bulkstow.source.spool import CHUNK_BYTES, Spool

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@contextmanager
def spool_of(most_bytes: int, directory: Path | None = None) -> Iterator[Spool]:
    """Open a spool."""
    with closing(Spool(most_bytes, directory)) as spool:
        yield spool


async def keep(spool: Spool, content: bytes) -> Extent:
    """Write a content whose size is known."""
    await spool.reserve(len(content))
    kept = spool.begin(len(content))
    kept.write(content)
    return kept.finish()


def read(extent: Extent) -> bytes:
    """Read an extent as a sender does."""
    found = b""
    for segment in open_extent(extent, by_link=False):
        assert not isinstance(segment, memoryview)
        view = memoryview(bytearray(segment.size_bytes))
        while len(found) < segment.size_bytes:
            count = segment.read_into(view[len(found) :], len(found))
            found += view[len(found) : len(found) + count]
    return found


def spool_files() -> list[int]:
    """Return the sizes of the spool's files in memory that this process has open."""
    descriptors = [path for path in Path("/proc/self/fd").iterdir() if path.exists() or path.is_symlink()]
    targets = {path: os.readlink(path) for path in descriptors if path.is_symlink()}  # noqa: PTH115 - no file of that name
    return [path.stat().st_size for path, target in targets.items() if "memfd:bulkstow" in target]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("keep"), st.integers(0, 40), st.integers(0, 20)),
            st.tuples(st.just("release"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("abort"), st.integers(0, 40), st.integers(0, 20)),
        ),
        max_size=30,
    )
)
def test_contents_stay_as_written_and_the_room_is_exact(steps: list[tuple[str, int, int]]) -> None:
    """After any writes, aborts and releases the rest can be read, and all room is free once all is released."""

    async def carry_out() -> None:
        with spool_of(1000) as spool:
            kept: list[tuple[Extent, bytes]] = []
            for number, (action, size, unused) in enumerate(steps):
                if action == "release":
                    if kept:
                        spool.release(kept.pop(size % len(kept))[0])
                    continue
                if spool.used_bytes + size + unused > 1000:
                    continue
                await spool.reserve(size + unused)
                content = spool.begin(size + unused)
                data = bytes([number]) * size
                content.write(data)
                if action == "abort":
                    content.abort()
                else:
                    kept.append((content.finish(), data))
                assert 0 <= sum(len(data) for _, data in kept) <= spool.used_bytes <= 1000
            assert [read(extent) for extent, _ in kept] == [data for _, data in kept]
            for extent, _ in kept:
                spool.release(extent)
            assert spool.used_bytes == 0

    anyio.run(carry_out)


async def test_room_is_given_in_order_once_contents_are_released() -> None:
    """A large content that waits is not overtaken by a small one, and the files never exceed the limit."""
    order: list[int] = []
    with spool_of(100) as spool:
        first = await keep(spool, bytes(60))

        async def wait(size_bytes: int) -> None:
            await spool.reserve(size_bytes)
            order.append(size_bytes)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, 70)
                await spool.until_full()
                tasks.start_soon(wait, 20)
                await anyio.lowlevel.checkpoint()
                assert order == []
                spool.release(first)
        assert (order, spool.used_bytes) == ([70, 20], 90)


async def test_a_cancelled_wait_takes_no_room() -> None:
    """The room for which a task waited goes to the next one."""
    with spool_of(100) as spool:
        first = await keep(spool, bytes(60))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spool.reserve, 70)
            await spool.until_full()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(PATIENCE_S):
            await spool.reserve(40)
        spool.release(first)
        assert spool.used_bytes == 40
        spool.give_back(40)
        assert spool.used_bytes == 0


async def test_what_is_larger_than_the_spool_is_refused_at_once() -> None:
    """A reason names the setting, instead of a wait without end."""
    with spool_of(100) as spool:
        with pytest.raises(SpoolExceeded, match=r"larger than the spool.*--spool-bytes"):
            await spool.reserve(101)
        await spool.reserve(90)
        growing = spool.begin(90, grows=True)
        with pytest.raises(SpoolExceeded, match="larger than the spool"):
            await spool.grow(growing, 11)


async def test_contents_that_grow_do_not_wait_for_each_other_for_ever() -> None:
    """When all room is taken by contents that have to grow, the last one gives up, and the first one gets its room."""
    refused: list[str] = []
    with spool_of(100) as spool:
        await spool.reserve(50)
        first = spool.begin(50, grows=True)
        await spool.reserve(50)
        second = spool.begin(50, grows=True)

        async def give_up() -> None:
            try:
                await spool.grow(second, 10)
            except SpoolExceeded as error:
                refused.append(str(error))
                second.abort()

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(give_up)
                await spool.grow(first, 50)
        first.write(bytes(100))
        assert refused == ["the spool is full of instances that are received"]
        assert read(first.finish()) == bytes(100)


async def test_more_than_was_announced_is_not_written() -> None:
    """A content cannot exceed its room, even if its source sends more."""
    with spool_of(100) as spool:
        await spool.reserve(10)
        content = spool.begin(10)
        content.write(bytes(8))
        with pytest.raises(SpoolExceeded, match="more than the 10 bytes"):
            content.write(bytes(3))


async def test_a_released_content_is_never_read_as_another(tmp_path: Path) -> None:
    """A descriptor that is used again belongs to another file: reading by the old extent fails."""
    with spool_of(4 * CHUNK_BYTES, tmp_path) as spool:
        large = await keep(spool, bytes(CHUNK_BYTES + 1))
        spool.release(large)
        other = await keep(spool, b"x" * (CHUNK_BYTES + 1))
        if other.path == large.path:
            with pytest.raises(InstanceChanged):
                read(large)
        spool.release(large)  # has no effect on the other one
        assert read(other) == b"x" * (CHUNK_BYTES + 1)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_many_contents_take_few_descriptors_and_no_more_room_than_allowed() -> None:
    """Small contents share files, and the files together have no more bytes than the limit."""
    with spool_of(16 * CHUNK_BYTES) as spool:
        extents = [await keep(spool, bytes(1000)) for _ in range(8000)]
        sizes = spool_files()
        assert len(sizes) <= 3
        assert 8_000_000 <= sum(sizes) <= 3 * CHUNK_BYTES
        for extent in extents:
            spool.release(extent)
        assert spool_files() == []


async def test_room_that_is_spared_is_for_those_that_spare_none() -> None:
    """A task that others wait for gets room beside contents that wait for it, and none of it is lost in their files."""
    with spool_of(1600) as spool:
        kept = []
        for _ in range(8):
            await spool.reserve(100, spare_bytes=800)
            content = spool.begin(100, spares=True)
            content.write(bytes(100))
            kept.append(content.finish())
        with anyio.move_on_after(PATIENCE_S):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(spool.reserve, 100, 800)
                await spool.until_full()
                for _ in range(50):
                    spool.release(await keep(spool, bytes(400)))
                assert spool.used_bytes == 800
                spool.release(kept[0])
        assert spool.used_bytes == 800
        with pytest.raises(SpoolExceeded, match="larger than the spool"):
            await spool.reserve(801, 800)


async def test_room_without_waiting_is_for_those_that_come_first(tmp_path: Path) -> None:
    """Room is given at once if there is enough, but never before a task that waits for it."""
    spool = Spool(100, tmp_path)
    assert spool.try_reserve(60)
    assert not spool.try_reserve(41)
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(spool.reserve, 50)
        await spool.until_full()
        assert not spool.try_reserve(40)
        spool.give_back(60)
    assert not spool.try_reserve(50, spare_bytes=1)
    assert spool.try_reserve(50)
    assert spool.used_bytes == 100
