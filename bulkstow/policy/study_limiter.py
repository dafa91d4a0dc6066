"""The study limit: how many requests of one study may be under way.

Databases of DICOMweb servers race on the first instance of a study: of two requests that both create the study's row
one fails (code 272 at dcm4chee). So other requests of a study start only after its first one has ended, and then at
most `per_study` are under way at once.
"""

# ruff: noqa: ARG002 - a gate need not use everything that it is told

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from bulkstow.model import Batch
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.gates import Gate
from bulkstow.policy.work_items import HealthSignal, WorkItem

REMEMBERED_STUDIES = 4096
"""Studies without a request under way that are remembered as known to the server. Forgetting one costs a request that
is sent alone."""


@dataclass(slots=True)
class _Study:
    under_way: int = 0
    known: bool = False


class StudyLimiter(Gate):
    """Counts requests under way by study; a batch of several studies counts for each of them."""

    why = Wait.STUDY

    def __init__(self, per_study: int) -> None:
        self._per_study = per_study
        self._studies: OrderedDict[str, _Study] = OrderedDict()

    def wait_s(self, item: WorkItem | None, now_s: float) -> float:
        """Return inf while one of the item's studies has too many requests under way."""
        return 0.0 if item is None or all(map(self.allow_study, studies_of(item.batch))) else math.inf

    def started(self, item: WorkItem | None, now_s: float) -> None:
        """Count a request for each of its studies."""
        if item is None:
            return
        for uid in studies_of(item.batch):
            self._studies.setdefault(uid, _Study()).under_way += 1
            self._studies.move_to_end(uid)

    def ended(self, item: WorkItem, now_s: float, result: HealthSignal) -> None:
        """Count a request as ended; if the server has answered it, its studies are known there from now on."""
        for uid in studies_of(item.batch):
            study = self._studies[uid]
            study.under_way -= 1
            study.known = study.known or result.is_answered
        for uid in list(islice(self._studies, max(0, len(self._studies) - REMEMBERED_STUDIES))):
            if not self._studies[uid].under_way:
                del self._studies[uid]

    def allow_study(self, uid: str) -> bool:
        """Say whether a request with instances of this study may start now."""
        study = self._studies.get(uid)
        if study is None or not study.under_way:
            return True
        return study.known and study.under_way < self._per_study


def studies_of(batch: Batch) -> frozenset[str]:
    """Return the Study Instance UIDs of a batch."""
    return frozenset(instance.header.study_uid for instance in batch.instances)
