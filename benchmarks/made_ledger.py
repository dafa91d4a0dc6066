"""A ledger of files that were stored: `python -m benchmarks.made_ledger LEDGER URL STUDIES INSTANCES`.

The files exist as rows only: a verification of a ledger reads none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.archive_uids import header_of
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Outcome

VERSION = 1_764_460_800_000_000_000
"""A modification time."""


def make(path: Path, url: str, studies: int, instances: int) -> None:
    """Write the ledger of an upload of this many studies."""
    with Ledger(path, url) as ledger:
        for study in range(studies):
            ledger.record([_stored(study, number) for number in range(instances)])


def _stored(study: int, number: int) -> FileResult:
    location = f"/archive/study{study:04}/IM{number:06}.dcm"
    return FileResult(Candidate(location, 526_336, VERSION), header_of(study, number), Outcome.STORED, attempts=1)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
