"""The questions to a destination before the first file leaves.

Asks them, and asks again where a connection was lost; `policy.preflight` decides what the answers mean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from bulkstow.model import NoResponse, Response
from bulkstow.policy.preflight import Asked, Step, expects_tls, judge_search, judge_store, may_expect_tls, no_answer

Question = Callable[[], Awaitable[Response | NoResponse]]

QUESTION_S = 30.0
"""Limit for each question: a search for one study takes ms, in an archive that wakes up seconds."""

DELAYS_S = (0.2, 0.5, 1.0)
"""Between searches whose connections end without an answer: behind a link that loses one connection in five, one run in
600 ends with the error that nothing is there."""


async def check_service(
    search: Question, store_nothing: Question, speaks_tls: Callable[[], Awaitable[bool]], asked: Asked
) -> None:
    """Check by a search, or else by a store request without instances, that a DICOMweb service is there.

    Raises DestinationRefused where there is none, and LoginRefused where it does not accept the login.
    """
    answer = await _search_again(search, asked)
    if may_expect_tls(answer, asked) and await speaks_tls():
        raise expects_tls(asked)
    match judge_search(answer, asked):
        case Step.BEGIN:
            return
        case Step.ASK_AGAIN:
            raise no_answer(answer, asked)
        case Step.ASK_BY_STORING:
            judge_store(answer, await store_nothing(), asked)


async def _search_again(search: Question, asked: Asked) -> Response | NoResponse:
    """Search; again while connections end without an answer."""
    for delay_s in DELAYS_S:
        answer = await search()
        if judge_search(answer, asked) is not Step.ASK_AGAIN:
            return answer
        await anyio.sleep(delay_s)
    return await search()
