"""The ledger: what is known of every file, on disk, for this run and the next.

One SQLite file in WAL mode, with one writer and one reader connection, and a lock that keeps a second run out. A row is
written only when a file's outcome is known, so whatever a crash interrupts has no row, or its old one, and is sent
again. `synchronous=NORMAL` is enough for that: WAL then survives the death of the process whole, and the death of the
machine without damage; what the machine's death takes back is sent again.

It knows nothing of servers or of the pipeline, and it never guesses: a ledger of a newer schema is refused, and so is a
damaged one. Rows have no checksum: a flipped bit makes a row unknown or invalid, so that its file is sent again, and
turns no other outcome into `stored`; pages that are old as a whole a checksum of rows would not find.
Methods block; the pipeline calls them in threads.
"""

from bulkstow.ledger.database import APPLICATION_ID, SCHEMA_VERSION
from bulkstow.ledger.journal import Known, Ledger
from bulkstow.ledger.lock import LOCK_SUFFIX
from bulkstow.ledger.reading import Entry, read_entries
from bulkstow.ledger.recovery import Recovered, recover

__all__ = [
    "APPLICATION_ID",
    "LOCK_SUFFIX",
    "SCHEMA_VERSION",
    "Entry",
    "Known",
    "Ledger",
    "Recovered",
    "read_entries",
    "recover",
]
