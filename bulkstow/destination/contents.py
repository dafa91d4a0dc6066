"""Files as the contents of instances: opened, compared with the scan, and read ahead. Everything here blocks."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from bulkstow.destination.ahead import fetch
from bulkstow.errors import InstanceChanged
from bulkstow.model import Candidate, Instance
from bulkstow.opening import open_file
from bulkstow.ports import FileRange


class Files:
    """Instances that are files."""

    def open(self, instance: Instance) -> Generator[FileRange]:
        """Open the file, yield it, and compare it with the scan.

        Raises InstanceChanged, once the file was read: what is still as the scan found it was so all the time.
        """
        try:
            descriptor = open_file(instance.candidate.location, by_link=instance.candidate.by_link)
            try:
                yield FileRange(descriptor, 0, instance.candidate.size_bytes)
                if reason := _change(instance.candidate, os.fstat(descriptor)):
                    raise InstanceChanged(reason)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InstanceChanged(f"cannot be read: {error.strerror or error}") from error

    def verify(self, instance: Instance) -> str:
        """Return why a file may not be as the scan found it.

        A file that goes from the page cache to a socket is not copied: what is written into it is sent, until the last
        byte is at the server. So what the server has is known only after its response.
        """
        try:
            return _change(instance.candidate, os.stat(instance.candidate.location))  # noqa: PTH116 - may not be UTF-8
        except OSError as error:
            # Removed or renamed: before that, bytes may have been written that were still to be sent.
            return f"cannot be looked at again: {error.strerror or error}"

    def prefetch(self, instance: Instance) -> int:
        """Have the system read the beginning of a file."""
        return fetch(instance.candidate.location)

    def existing_parent(self, location: str) -> str:
        """Return the innermost existing directory above a file."""
        directory = location.rpartition("/")[0]
        while directory and not Path(directory).is_dir():
            directory = directory.rpartition("/")[0]
        return directory


def _change(candidate: Candidate, found: os.stat_result) -> str:
    if found.st_size != candidate.size_bytes:
        return f"changed while it was sent: {candidate.size_bytes} bytes at the scan, now {found.st_size}"
    if found.st_mtime_ns != candidate.modified_ns:
        return "changed while it was sent: its modification time is new"
    return ""
