"""The ledger: the outcome of every file, on disk, for this run and the next.

A SQLite file in WAL mode, with one writer and one reader connection, and a lock that keeps a second run out. A row is
written only when a file's outcome is known. So a file that a crash interrupts has no row, or its old one, and is sent
again. `synchronous=NORMAL` suffices for that: the WAL is complete after a crash of the process and undamaged after a
crash of the machine; files whose rows the latter loses are sent again.

A ledger of a newer schema and a damaged one are refused. Rows have no checksum: a flipped bit makes a row unknown or
invalid, so that its file is sent again, and turns no other outcome into `stored`; a checksum would not find old pages.
Methods block; the pipeline calls them in threads.
"""

from bulkstow.ledger.database import APPLICATION_ID, SCHEMA_VERSION, is_ledger
from bulkstow.ledger.earlier_runs import EarlierRuns, NotStored
from bulkstow.ledger.editing import Choice, LedgerEditor
from bulkstow.ledger.journal import Ledger
from bulkstow.ledger.lock import LOCK_SUFFIX
from bulkstow.ledger.look_ups import Known, LookUps
from bulkstow.ledger.reading import Entry, LedgerReader, RunRecord, read_entries
from bulkstow.ledger.recovery import Recovered, recover

__all__ = [
    "APPLICATION_ID",
    "LOCK_SUFFIX",
    "SCHEMA_VERSION",
    "Choice",
    "EarlierRuns",
    "Entry",
    "Known",
    "Ledger",
    "LedgerEditor",
    "LedgerReader",
    "LookUps",
    "NotStored",
    "Recovered",
    "RunRecord",
    "is_ledger",
    "read_entries",
    "recover",
]
