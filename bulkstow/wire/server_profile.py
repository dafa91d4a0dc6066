"""Everything that differs between DICOMweb servers, as one value.

A server with a peculiarity is an instance of `ServerProfile`, or a row in one of its tables; no code asks which server
it talks to. DEFAULT suits every server that is known. To add a server, copy ORTHANC and enter it in PROFILES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bulkstow.wire.failure_reasons import (
    FAILURE_REASONS,
    FAILURE_WORDS,
    WARNING_REASONS,
    FailureClass,
    FailureReason,
    FailureWords,
)
from bulkstow.wire.resource_path import resource_path


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A GET below the DICOMweb root."""

    path: str
    query: Mapping[str, str]


_ANY_STUDY = SearchRequest("/studies", {"limit": "1"})


@dataclass(frozen=True, slots=True)
class PrivateElement:
    """A private data element (PS3.5 §7.8.1), in any block that its creator has reserved."""

    creator: str
    group: str
    """Four hexadecimal digits, in upper case."""
    element: str
    """The last two hexadecimal digits, in upper case."""


@dataclass(frozen=True, slots=True)
class StudyDeletion:
    """A DELETE request for a study."""

    path: Callable[[str, str], str]
    """Returns the path for a Patient ID and a Study Instance UID."""
    levels_up: int = 0
    """Number of segments that are removed from the end of the DICOMweb root's path before `path` is added."""
    interface: str = ""
    """The interface's name for messages, if it is not DICOMweb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProfile:
    """A kind of server. The user's settings override it: --chunked, --quote-boundary, --header 'Accept: …'."""

    accept: str = "application/dicom+json"
    """The Accept header. All servers support this type; Google sends XML without it, Azure supports no other."""
    quote_boundary: bool = False
    """Whether the boundary is quoted. If it is, Orthanc before 1.4 stores nothing."""
    chunked: bool = False
    """Whether bodies are chunked. Orthanc is three times as fast with a Content-Length, for a part of 400 MB."""
    probe: SearchRequest = _ANY_STUDY
    """A request that shows whether the service answers and accepts the login."""
    page_studies: int = 200
    page_instances: int = 200
    """Results per page of a search: Azure's maximum, the smallest of all servers."""
    lists_duplicates_as_stored: bool = False
    """Whether an instance is listed as stored although the server keeps the earlier content of its SOP Instance UID.
    Other servers list it as failed, with a reason for duplicates below, or replace the content."""
    failure_reasons: tuple[FailureReason, ...] = FAILURE_REASONS
    failure_words: tuple[FailureWords, ...] = FAILURE_WORDS
    comments: tuple[PrivateElement, ...] = (PrivateElement("GOOGLE", "0009", "97"),)
    """Elements with text about a failure, besides ErrorComment; Google's is FailureDetail."""
    deletions: tuple[StudyDeletion, ...]
    """Ways to delete a study, tried in this order until one succeeds."""

    def classify(self, code: int | None, comment: str = "") -> FailureClass:
        """Return the meaning of a FailureReason (0008,1197) for retries.

        None, 0 and unknown codes are AMBIGUOUS: calling them permanent could refuse what would be stored a second
        later, and retries cost three small requests at most. The server's `comment` decides if the code is vague.
        """
        row = self._row(code)
        failure = row.failure if row else FailureClass.AMBIGUOUS
        if comment and (row is None or row.is_vague):
            return next((words.failure for words in self.failure_words if words.pattern.search(comment)), failure)
        return failure

    def meaning(self, code: int | None, comment: str = "") -> str:
        """Return a reason as the standard prints it, in short English, and with the server's comment.

        The same for warnings and failures: "B000 coerced", "A700 out of resources: disk full"; for None and 0 "no
        reason given".
        """
        if not code:
            return comment or "no reason given"
        row = self._row(code)
        short = f"{code:04X} {row.meaning if row else WARNING_REASONS.get(code, 'unknown reason')}"
        return f"{short}: {comment}" if comment else short

    def _row(self, code: int | None) -> FailureReason | None:
        return next((row for row in self.failure_reasons if code is not None and row.first <= code <= row.last), None)


def _dicomweb_path(_patient_id: str, study_uid: str) -> str:
    return resource_path("studies", study_uid)


def _orthanc_path(patient_id: str, study_uid: str) -> str:
    """Return the path with Orthanc's own identifier, a digest of both IDs (Orthanc Book, "Orthanc identifiers")."""
    from hashlib import sha1

    digest = sha1(f"{patient_id}|{study_uid}".encode(), usedforsecurity=False).hexdigest()
    return "/studies/" + "-".join(digest[start : start + 8] for start in range(0, len(digest), 8))


_BY_DICOMWEB = StudyDeletion(_dicomweb_path)
_BY_ORTHANC = StudyDeletion(_orthanc_path, levels_up=1, interface="Orthanc's own")

DEFAULT = ServerProfile(deletions=(_BY_DICOMWEB, _BY_ORTHANC))

ORTHANC = replace(DEFAULT, lists_duplicates_as_stored=True, deletions=(_BY_ORTHANC,))
"""Orthanc with its DICOMweb plugin. Plugin 1.7 answers DELETE with 405, and larger pages are no faster: listing takes
1 ms per instance."""

PROFILES: Mapping[str, ServerProfile] = {"default": DEFAULT, "orthanc": ORTHANC}
"""Profiles by the name in the settings."""
