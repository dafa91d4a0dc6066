"""The missing instances of a verification, as lists on disk: files to send, and studies to verify again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bulkstow.policy.study_state import StudyState
from bulkstow.source.listing import read_list
from bulkstow.verification.examine import Examined
from bulkstow.wire.uids import is_uid


class RepairLists:
    """Writes two lists below a directory: paths that end with NUL, and Study Instance UIDs, one per line.

    A study without a valid UID cannot be asked for, so nothing of it is known to be missing.
    """

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self.studies = directory / "studies"
        self.is_empty = True
        """Nothing is missing."""
        self.has_other_failures = False
        """A study is different or unknown, which sending files does not change."""

    def drop_lost_files(self) -> int:
        """Take out files that are no longer there, and return their number. Blocks.

        An upload would record them as unreadable instead of missing.
        """
        dropped = 0
        kept = self.files.with_name("kept")
        with self.files.open("rb") as names, kept.open("wb") as file:
            for name in read_list(names.read, null_separated=True):
                if os.path.lexists(name):
                    file.write(os.fsencode(name) + b"\0")
                else:
                    dropped += 1
        kept.replace(self.files)
        return dropped

    def write(self, examined: Sequence[Examined]) -> None:
        """Add the missing instances of some studies."""
        lost = [one for one in examined if one.missing_files and is_uid(one.result.study_uid)]
        states = {one.result.state for one in examined}
        self.has_other_failures |= bool(states & {StudyState.DIFFERENT, StudyState.UNKNOWN})
        if not lost:
            return
        self.is_empty = False
        with self.files.open("ab") as files, self.studies.open("a", encoding="ascii") as studies:
            for one in lost:
                files.writelines(file.path + b"\0" for file in one.missing_files)
                studies.write(one.result.study_uid + "\n")
