"""The server before and after a run: whether it is empty, and taking away what the run stored.

Owns how a run's studies are found (QIDO-RS by Patient ID) and deleted: by DICOMweb's DELETE or, where a server has none
and is an Orthanc, by its own REST interface. Deletes nothing whose Patient ID does not begin with the run's tag: some
servers answer a query that they do not understand with all that they have.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha1
from urllib.parse import urlsplit

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Auth
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.http import HttpClient, Request
from bulkstow.destination.qido import PAGE_LIMIT_BYTES
from bulkstow.errors import ConfigurationError
from bulkstow.model import NoResponse, Response
from bulkstow.server.catalogue import is_uid
from bulkstow.wire.resource_path import resource_path

PAGE_STUDIES = 200
"""Azure's maximum, the smallest of all."""

_PATIENT_ID = "00100020"
_STUDY_UID = "0020000D"

_WAY_OUT = "give a server that is for testing, and say so with --yes-this-is-a-test-server"


@dataclass(frozen=True, slots=True)
class Study:
    """A study as a server lists it."""

    patient_id: str
    study_uid: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of a run's studies."""

    removed: int
    left: int | None
    """As far as the server lists them; None where it lists none."""
    why: str = ""
    """Why some are left, or may be; empty where none are."""


class Grounds:
    """A server as the place of a run."""

    def __init__(self, client: AuthorizedClient, orthanc: AuthorizedClient, timeout_s: float) -> None:
        self._client = client
        self._orthanc = orthanc
        self._timeout_s = timeout_s
        self._has_delete = True

    async def check_empty(self) -> None:
        """Raise ConfigurationError for a server that holds studies, and for one that does not say."""
        listed = await self._page({"limit": "1"})
        if isinstance(listed, str):
            raise ConfigurationError(f"cannot see whether the server is empty (QIDO-RS: {listed}): {_WAY_OUT}")
        if listed:
            raise ConfigurationError(f"the server holds studies already, not to be mixed with made-up ones: {_WAY_OUT}")

    async def remove(self, tag: str, *, on_listed: Callable[[int], None] = lambda _: None) -> Removal:
        """Delete the studies of the run that has this tag; before that `on_listed` hears how many they are."""
        tried: set[Study] = set()
        removed = 0
        while True:
            listed = await self._listed(tag)
            if isinstance(listed, str):
                return Removal(removed, None, f"QIDO-RS: {listed}")
            if not listed - tried:
                why = "the server lists them still, though it said that they are deleted" if listed else ""
                return Removal(removed - len(listed), len(listed), why)
            on_listed(len(listed - tried))
            for study in listed - tried:
                tried.add(study)
                if why := await self._delete(study):
                    return Removal(removed, len(listed) - removed, why)
                removed += 1

    async def _listed(self, tag: str) -> set[Study] | str:
        """Return the studies of a run, or why they cannot be listed."""
        listed: set[Study] = set()
        offset = 0
        while True:
            query = {"PatientID": f"{tag}.*", "limit": str(PAGE_STUDIES), "offset": str(offset)}
            page = await self._page(query)
            if isinstance(page, str):
                return page
            if listed.issuperset(page):
                return {study for study in listed if study.patient_id.startswith(f"{tag}.")}
            listed.update(page)
            offset += len(page)

    async def _page(self, query: Mapping[str, str]) -> list[Study] | str:
        """Return the studies that QIDO-RS lists, or why it lists none."""
        match await self._ask(self._client, "GET", "/studies", query):
            case NoResponse(cause=cause):
                return cause.value
            case Response(status=204):
                return []
            case Response(status=200 | 206, body=body):
                try:
                    return [_study(item) for item in json.loads(body or b"[]")]
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    return "the answer is not DICOM JSON"
            case Response(status=status):
                return f"HTTP {status}"

    async def _delete(self, study: Study) -> str:
        """Delete a study; return why it is not, or nothing."""
        if not is_uid(study.study_uid):
            return f"the server lists a study whose UID is none, {study.study_uid[:64]!r}"  # it would be a path's part
        said = ""
        if self._has_delete:
            path = resource_path("studies", study.study_uid)
            answer = await self._ask(self._client, "DELETE", path)
            if _is_done(answer):
                return ""
            said = f"DELETE {path}: {_words(answer)}"
        identifier = orthanc_id(study)
        answer = await self._ask(self._orthanc, "DELETE", f"/studies/{identifier}")
        if _is_done(answer):
            self._has_delete = False
            return ""
        return f"{said or 'DELETE'}; Orthanc's own DELETE /studies/{identifier}: {_words(answer)}"

    async def _ask(
        self, client: AuthorizedClient, method: str, path: str, query: Mapping[str, str] | None = None
    ) -> Response | NoResponse:
        request = Request(method, path, {"Accept": _ACCEPT}, query or {}, answer_limit_bytes=PAGE_LIMIT_BYTES)
        return await client.exchange(request, timeout_s=self._timeout_s)


_ACCEPT = "application/dicom+json"


@asynccontextmanager
async def grounds(settings: DestinationSettings, auth: Auth) -> AsyncIterator[Grounds]:
    """Give a server as the place of a run."""
    above = replace(settings, url=orthanc_root(settings.root))
    async with HttpClient(settings) as client, HttpClient(above) as orthanc:
        clients = AuthorizedClient(client, auth), AuthorizedClient(orthanc, auth)
        yield Grounds(*clients, settings.response_timeout_s)


def orthanc_root(root: str) -> str:
    """Return where Orthanc's REST interface is beside its DICOMweb root: one step up."""
    parts = urlsplit(root)
    return parts._replace(path=parts.path.rpartition("/")[0]).geturl()


def orthanc_id(study: Study) -> str:
    """Return what Orthanc calls a study: a digest of Patient ID and Study Instance UID (Orthanc Book, identifiers)."""
    digest = sha1(f"{study.patient_id}|{study.study_uid}".encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, len(digest), 8))


def _study(item: Mapping[str, Mapping[str, list[object]]]) -> Study:
    """Read an item of QIDO-RS; one without a patient is nobody of ours."""
    patient_ids = item.get(_PATIENT_ID, {}).get("Value") or [""]
    return Study(str(patient_ids[0]), str(item[_STUDY_UID]["Value"][0]))


def _is_done(answer: Response | NoResponse) -> bool:
    return isinstance(answer, Response) and answer.status in (200, 202, 204)


def _words(answer: Response | NoResponse) -> str:
    return f"HTTP {answer.status}" if isinstance(answer, Response) else answer.cause.value
