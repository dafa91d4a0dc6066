"""The locations of a server's instances: the URL of each with `dicomweb+` before it, as the user writes the root."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from bulkstow.model import Candidate, Header
from bulkstow.wire.resource_path import instance_path, resource_path

PREFIX = "dicomweb+"

NO_PATH = "its UIDs cannot be part of a URL"

_LEVELS = ("studies", "series", "instances")


@dataclass(frozen=True, slots=True)
class Locations:
    """The locations below a DICOMweb root, which has no slash at its end."""

    root: str

    @property
    def source(self) -> str:
        """The location of the whole server."""
        return f"{PREFIX}{self.root}"

    def candidate(self, header: Header) -> Candidate | None:
        """Return an instance as the server announces it; None if its UIDs cannot be a part of a URL."""
        path = instance_path(header)
        return None if path is None else Candidate(f"{self.source}{path}", 0, "", announced=header)

    def study(self, study_uid: str) -> Candidate:
        """Return a study as a candidate for an outcome of the study as a whole."""
        return Candidate(f"{self.source}{resource_path('studies', study_uid)}", 0, "")

    def nameless(self, level: str, uid: str) -> Candidate:
        """Return something whose UID cannot be a part of a URL as a candidate for an outcome."""
        return Candidate(f"{self.source}/{level}?{uid[:64]!a}", 0, "")

    def header_of(self, candidate: Candidate) -> Header | None:
        """Return the announced head of a candidate, or the UIDs in its location; None for one of another source."""
        if candidate.announced is not None:
            return candidate.announced
        path = candidate.location.removeprefix(f"{self.source}/")
        segments = path.split("/")
        if path == candidate.location or tuple(segments[::2]) != _LEVELS or len(segments) != 2 * len(_LEVELS):
            return None
        study_uid, series_uid, sop_instance_uid = map(unquote, segments[1::2])
        return Header(study_uid, series_uid, sop_instance_uid, "", "")
