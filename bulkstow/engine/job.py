"""What to upload where."""

from __future__ import annotations

from dataclasses import dataclass

from bulkstow.config import DestinationSettings, UploadSettings


@dataclass(frozen=True, slots=True)
class Job:
    """What to upload where; plain values, so that a job can travel."""

    sources: tuple[str, ...]
    destination: DestinationSettings
    settings: UploadSettings
    files_from: str | None = None
    """File with one source a line, '-' for standard input."""
    null_separated: bool = False
