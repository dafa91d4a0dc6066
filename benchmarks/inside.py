"""bulkstow's command with somebody inside its event loop, from the loop's first moment on.

Gets the loop where it is made, as `anyio.run` begins. To search all objects for it (`gc.get_objects`) from a thread was
tried: now and then that takes hold of a tuple that is not finished, and whoever makes it fails with SystemError.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from bulkstow.cli.app import status


def status_with(inside: Callable[[asyncio.AbstractEventLoop], None]) -> int:
    """Run the command of `sys.argv` and return its status; `inside` is called in its loop, before anything else is."""
    run = anyio.run

    def run_with(function: Callable[..., Awaitable[Any]], *words: object, **options: Any) -> object:  # noqa: ANN401
        async def with_company() -> object:
            inside(asyncio.get_running_loop())
            return await function(*words)

        return run(with_company, **options)

    anyio.run = run_with  # type: ignore[assignment]
    return status(sys.argv[1:])
