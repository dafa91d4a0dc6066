"""The server before and after a run: whether it is empty, and the deletion of what the run stored.

A run's studies are found by QIDO-RS (by Patient ID) and deleted in the ways that the server's profile lists. Nothing is
deleted whose Patient ID does not begin with the run's tag, as some servers answer an unknown query with all studies.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Auth
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.http import HttpClient, Request
from bulkstow.destination.qido import ACCEPT, PAGE_LIMIT_BYTES
from bulkstow.errors import ConfigurationError
from bulkstow.model import NoResponse, Response
from bulkstow.wire.server_profile import ServerProfile
from bulkstow.wire.uids import is_uid

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
    """The result of deleting a run's studies."""

    removed: int
    left: int | None
    """Those that the server still lists; None where it cannot list them."""
    why: str = ""
    """Why some are left, or may be."""


class TestServer:
    """The server of a run: its emptiness before, its cleaning after."""

    def __init__(self, clients: Mapping[int, AuthorizedClient], profile: ServerProfile, timeout_s: float) -> None:
        """`clients` are by how many segments of the DICOMweb root's path they leave out."""
        self._clients = clients
        self._profile = profile
        self._deletions = profile.deletions
        self._timeout_s = timeout_s

    async def check_empty(self) -> None:
        """Raise ConfigurationError for a server that holds studies, or does not list them."""
        probe = self._profile.probe
        listed = _studies(await self._ask(0, "GET", probe.path, probe.query))
        if isinstance(listed, str):
            raise ConfigurationError(f"cannot see whether the server is empty (QIDO-RS: {listed}): {_WAY_OUT}")
        if listed:
            raise ConfigurationError(f"the server holds studies already, not to be mixed with made-up ones: {_WAY_OUT}")

    async def remove(self, tag: str, *, on_listed: Callable[[int], None] = lambda _: None) -> Removal:
        """Delete the studies of the run with this tag; `on_listed` is called with their number before."""
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
            query = {"PatientID": f"{tag}.*", "limit": str(self._profile.page_studies), "offset": str(offset)}
            page = _studies(await self._ask(0, "GET", "/studies", query))
            if isinstance(page, str):
                return page
            if listed.issuperset(page):
                return {study for study in listed if study.patient_id.startswith(f"{tag}.")}
            listed.update(page)
            offset += len(page)

    async def _delete(self, study: Study) -> str:
        """Delete a study; return why it is not, or nothing."""
        if not is_uid(study.study_uid):
            return f"the server lists a study whose UID is none, {study.study_uid[:64]!r}"  # it would be a path's part
        failures = []
        for number, deletion in enumerate(self._deletions):
            path = deletion.path(study.patient_id, study.study_uid)
            answer = await self._ask(deletion.levels_up, "DELETE", path)
            if isinstance(answer, Response) and answer.status in (200, 202, 204):
                self._deletions = self._deletions[number:]
                return ""
            failures.append(f"{deletion.interface} DELETE {path}: {_words(answer)}".lstrip())
        return "; ".join(failures)

    async def _ask(
        self, levels_up: int, method: str, path: str, query: Mapping[str, str] | None = None
    ) -> Response | NoResponse:
        request = Request(method, path, {"Accept": ACCEPT}, query or {}, response_limit_bytes=PAGE_LIMIT_BYTES)
        return await self._clients[levels_up].exchange(request, timeout_s=self._timeout_s)


@asynccontextmanager
async def open_test_server(settings: DestinationSettings, auth: Auth) -> AsyncIterator[TestServer]:
    """Connect to the server of a run, by DICOMweb and Orthanc's own interface."""
    async with AsyncExitStack() as stack:
        clients = {}
        for levels_up in {0, *(deletion.levels_up for deletion in settings.profile.deletions)}:
            client = HttpClient(replace(settings, url=root_above(settings.root, levels_up)))
            clients[levels_up] = AuthorizedClient(await stack.enter_async_context(client), auth)
        yield TestServer(clients, settings.profile, settings.response_timeout_s)


def root_above(root: str, levels_up: int) -> str:
    """Return a URL without the last segments of its path."""
    parts = urlsplit(root)
    segments = parts.path.split("/")
    return parts._replace(path="/".join(segments[: max(len(segments) - levels_up, 1)])).geturl()


def _studies(answer: Response | NoResponse) -> list[Study] | str:
    """Return the studies that a response of QIDO-RS lists, or why it lists none."""
    match answer:
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


def _study(item: Mapping[str, Mapping[str, list[object]]]) -> Study:
    """Read an item of QIDO-RS; one without a patient is not of the run."""
    patient_ids = item.get(_PATIENT_ID, {}).get("Value") or [""]
    return Study(str(patient_ids[0]), str(item[_STUDY_UID]["Value"][0]))


def _words(answer: Response | NoResponse) -> str:
    return f"HTTP {answer.status}" if isinstance(answer, Response) else answer.cause.value
