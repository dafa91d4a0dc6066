from __future__ import annotations

import asyncio
import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.relay import SEGMENT_BYTES, Flow, Link, relay

WINDOW_BYTES = 256 * 2**10


def carried(link: Link, connections: int, duration_s: float) -> int:
    """Return what arrives within a time, when every connection sends whatever it may: by a clock of our own."""
    flows = [Flow(link) for _ in range(connections)]
    arrived_bytes = 0
    acknowledged: list[tuple[float, int]] = []
    now_s = 0.0
    while now_s <= duration_s:
        for number, flow in enumerate(flows):
            while flow.has_room:
                arrives_s = flow.sent(now_s, SEGMENT_BYTES)
                arrived_bytes += SEGMENT_BYTES if arrives_s <= duration_s else 0
                heapq.heappush(acknowledged, (arrives_s + link.delay_s, number))
        now_s, number = heapq.heappop(acknowledged)
        flows[number].acknowledged(SEGMENT_BYTES)
    return arrived_bytes


@pytest.mark.parametrize(
    ("delay_s", "connections", "bytes_per_s"),
    [
        (0.025, 1, WINDOW_BYTES / 0.05),
        (0.025, 4, 4 * WINDOW_BYTES / 0.05),
        (0.025, 8, 25e6),
        (0.05, 1, WINDOW_BYTES / 0.1),
        (0.05, 8, 8 * WINDOW_BYTES / 0.1),
        (0.05, 16, 25e6),
    ],
)
def test_a_connection_gets_a_window_a_round_trip_and_all_together_the_rate(
    delay_s: float, connections: int, bytes_per_s: float
) -> None:
    """Few connections are bound by their windows and the delay both ways, many by the link."""
    link = Link(25e6, delay_s, WINDOW_BYTES)
    found_bytes_per_s = carried(link, connections, duration_s=20.0) / 20.0
    # Less by the first round trip of twenty seconds, and by what a segment takes to leave the link.
    assert bytes_per_s * 0.96 <= found_bytes_per_s <= bytes_per_s * 1.001


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, SEGMENT_BYTES)), min_size=1))
def test_nothing_arrives_early_or_out_of_turn(sendings: list[tuple[float, int]]) -> None:
    """Each arrives after its own time on the link and the delay, after those before it, and the link loses no time."""
    link = Link(1e6, 0.05, WINDOW_BYTES)
    flow = Flow(link)
    now_s = 0.0
    arrivals_s = []
    for pause_s, size_bytes in sendings:
        now_s += pause_s
        arrivals_s.append(flow.sent(now_s, size_bytes))
        assert arrivals_s[-1] >= now_s + size_bytes / 1e6 + 0.05 - 1e-9
    assert arrivals_s == sorted(arrivals_s)
    assert arrivals_s[-1] <= now_s + sum(size for _, size in sendings) / 1e6 + 0.05 + 1e-9


@given(st.lists(st.integers(1, SEGMENT_BYTES), min_size=1))
def test_no_more_than_a_window_is_under_way(sizes_bytes: list[int]) -> None:
    """Whatever the sizes: who sends only where there is room never has more than the window unacknowledged."""
    flow = Flow(Link(1e6, 0.05, 4 * SEGMENT_BYTES))
    under_way: list[int] = []
    for size_bytes in sizes_bytes:
        while not flow.has_room:
            flow.acknowledged(under_way.pop(0))
        flow.sent(0.0, size_bytes)
        under_way.append(size_bytes)
        assert sum(under_way) <= 4 * SEGMENT_BYTES


async def _through_relay(request: bytes) -> tuple[bytes, bytes]:
    """Return what the far end got, and what the near end got back; both ends must see the other close."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(len(request))
        writer.write(body[::-1])
        got.set_result(body + await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, relay(Link(1e9, 0.001, WINDOW_BYTES), "127.0.0.1", server.sockets[0].getsockname()[1]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.readexactly(len(request))
        writer.close()
        return await got, answer


def test_bytes_come_through_in_order_both_ways_and_closing_does_too() -> None:
    """A body of several windows, and an answer as long, are what they were; who hangs up is noticed at the far end."""
    request = bytes(range(256)) * 4096
    assert asyncio.run(_through_relay(request)) == (request, request[::-1])
