"""The members of a container in lists: the common part of the readers of all formats.

Opens the container, compares its file with the scan before a list is handed over, and turns damage into the outcome of
the container, after the members before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import cast

from bulkstow.errors import DamagedHead, SpoolError
from bulkstow.model import Candidate, Extent, FileResult, Outcome
from bulkstow.ports import Found, Members, Room
from bulkstow.source.extents import change_of, open_extent_bytes
from bulkstow.source.spool import Spool
from bulkstow.source.staging import Staging
from bulkstow.source.windows import OpenBytes

MEMBERS_PER_LIST = 256
"""The members in a list; reading the headers of so many takes 8 ms in a tar archive."""

Items = Iterator[Found | Room | None]
"""Members one by one; None reports progress, after about 16 MiB without a member."""

Reader = Callable[[OpenBytes, Staging], Items]
"""Reads the members of an open container. Raises DamagedHead, SpoolError and OSError."""


class _Changed(Exception):
    """The file of a container has changed; the text is the reason."""


def extent_of(container: Candidate) -> Extent:
    """Return where the bytes of a container are: all of its file, if it is not a part of one."""
    if container.extent is not None:
        return container.extent
    version = (container.size_bytes, cast("int", container.version))
    return Extent(container.location, 0, container.size_bytes, version)


def members_in_lists(container: Candidate, spool: Spool, read: Reader) -> Members:
    """Yield the members that `read` finds in a container, and its own outcome if it is damaged or has changed."""
    staging = Staging(spool, is_nested=container.extent is not None)
    extent = extent_of(container)
    found: list[Found] = []
    try:
        try:
            data = open_extent_bytes(extent, by_link=bool(container.by_link))
            try:
                for item in read(data, staging):
                    if item is not None and not isinstance(item, Room):
                        found.append(item)
                        if len(found) < MEMBERS_PER_LIST and not staging.has_enough:
                            continue
                    if found or item is None:  # also before waiting for room, which this list may take
                        _raise_if_changed(extent, data)
                        yield staging.hand_over(found)
                        found = []
                    if isinstance(item, Room):
                        yield item
                _raise_if_changed(extent, data)
            except (DamagedHead, SpoolError, OSError):
                _raise_if_changed(extent, data)  # then this is no damage
                raise
            finally:
                os.close(data.descriptor)
        except _Changed as error:  # members of this list may be a mixture of the old and the new content
            found = [_unreadable(container, str(error))]
            staging.discard()
        except (DamagedHead, SpoolError) as error:
            found.append(_unreadable(container, str(error)))
        except OSError as error:
            found.append(_unreadable(container, f"cannot be read: {error.strerror or error}"))
        yield staging.hand_over(found)
    finally:
        staging.discard()


def _raise_if_changed(extent: Extent, data: OpenBytes) -> None:
    if change := change_of(extent, os.fstat(data.descriptor)):
        raise _Changed(change)


def _unreadable(container: Candidate, reason: str) -> FileResult:
    return FileResult(container, None, Outcome.UNREADABLE, reason)
