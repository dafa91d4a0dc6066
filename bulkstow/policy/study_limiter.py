"""How many requests of one study may be under way.

Databases behind DICOMweb servers race on the first instance of a study: two requests that both create the study's row
end with one of them failed (code 272 at dcm4chee). So the first request of a study ends before others of it start, and
then at most `per_study` are under way at once. Keeps counts, starts nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from bulkstow.model import Batch

REMEMBERED_STUDIES = 4096
"""Idle studies that are remembered as known to the server. Forgetting one costs a serial request, no correctness."""


@dataclass(slots=True)
class _Study:
    under_way: int = 0
    known: bool = False


class StudyLimiter:
    """Counts requests under way by study; a batch of several studies counts for each of them."""

    def __init__(self, per_study: int) -> None:
        self._per_study = per_study
        self._studies: OrderedDict[str, _Study] = OrderedDict()

    def allow(self, batch: Batch) -> bool:
        """Say whether a request with this batch may start now."""
        return all(self.allow_study(uid) for uid in studies_of(batch))

    def start(self, batch: Batch) -> None:
        """Count a request with this batch as under way."""
        for uid in studies_of(batch):
            self._studies.setdefault(uid, _Study()).under_way += 1
            self._studies.move_to_end(uid)

    def finish(self, batch: Batch, *, answered: bool = True) -> None:
        """Count it as ended; if the server has answered, its studies are known there from now on."""
        for uid in studies_of(batch):
            study = self._studies[uid]
            study.under_way -= 1
            study.known = study.known or answered
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
