"""Interface to the files known from this run and earlier ones; the first stages ask it before they pass on a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from bulkstow.ledger import Known
from bulkstow.model import Candidate, Instance, Outcome


class KnownFiles(Protocol):
    """Outcomes of files; `Ledger` has those of an upload. The methods block."""

    def look_up(self, candidates: Sequence[Candidate], again: Collection[Outcome] = ()) -> list[Known | None]:
        """Return for each candidate its known outcome; None if it is new or has changed since."""

    def instances(self, candidates: Sequence[Candidate]) -> dict[str, Instance]:
        """Return, by location, the instances of known files that could be read as DICOM."""

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return, by SOP Instance UID, the files that are on the server, in the order of their paths.

        Files with other content at the server have a `conflicting_file`.
        """
