"""The requests that check a destination before the first file is sent.

Makes them, and repeats a search whose connection was lost; `policy.preflight` decides what the responses mean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from bulkstow.model import NoResponse, Response
from bulkstow.policy.preflight import Asked, Step, expects_tls, judge_search, judge_store, may_expect_tls, no_answer

Query = Callable[[], Awaitable[Response | NoResponse]]

TIMEOUT_S = 30.0
"""Time limit for each request: a search for one study takes ms, or seconds in an archive that wakes up."""

DELAYS_S = (0.2, 0.5, 1.0)
"""Delays between searches whose connections were lost: if a link loses one connection in five, one run in 600 ends with
the error that no server responds."""


async def check_service(
    search: Query, store_nothing: Query, speaks_tls: Callable[[], Awaitable[bool]], asked: Asked
) -> None:
    """Check by a search, or else by a store request without instances, that a DICOMweb service is there.

    Raises DestinationRefused if there is none, and LoginRefused if it does not accept the login.
    """
    response = await _search(search, asked)
    if may_expect_tls(response, asked) and await speaks_tls():
        raise expects_tls(asked)
    match judge_search(response, asked):
        case Step.BEGIN:
            return
        case Step.ASK_AGAIN:
            raise no_answer(response, asked)
        case Step.ASK_BY_STORING:
            judge_store(response, await store_nothing(), asked)


async def _search(search: Query, asked: Asked) -> Response | NoResponse:
    """Search, again while connections are lost."""
    for delay_s in DELAYS_S:
        response = await search()
        if judge_search(response, asked) is not Step.ASK_AGAIN:
            return response
        await anyio.sleep(delay_s)
    return await search()
