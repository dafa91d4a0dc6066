"""The terms on which a search or a retrieval is answered: the effects of faults on it, as data.

`origin`, `query`, `retrieve` and `message` answer on these terms; `read_faults` makes them from a plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadTerms:
    """The terms of one answer; the defaults are those of an origin without faults."""

    page_instances: int | None = None
    """The most results of one page; None is `query.PAGE_SIZE`, or all results if `limit` is ignored."""
    ignores_limit: bool = False
    ignores_offset: bool = False
    repeated_instances: int = 0
    """The results at the end of each page that the next page lists again."""
    empty_status: int = 204
    """The status of a search without results: 204, or 200 with an empty list."""
    listed_until_s: float = math.inf
    """Instances stored after this time of `time.monotonic` are not listed yet."""
    is_other_document: bool = False
    """The answer to a search is no JSON."""
    is_other_instance: bool = False
    """Another instance of the study is sent instead of each."""
    sent_share: float = 1.0
    """The share of the answer's bytes after which the connection is closed."""
