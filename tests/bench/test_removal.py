"""A server before and after a run: what is asked of it, and what is deleted."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bulkstow.bench import removal
from bulkstow.bench.removal import Removal, Study, open_test_server, root_above
from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import login
from bulkstow.errors import ConfigurationError
from bulkstow.wire.server_profile import ORTHANC

pytestmark = pytest.mark.anyio

TAG = "bulkstow-bench-abc"
OURS = {f"{TAG}.00001.{n:012d}": f"2.25.{n + 1}" for n in range(5)}
OTHERS = {"4711": "1.2.3", f"{TAG}d.00001.000000000000": "2.25.77", "": "1.2.4"}


def orthanc_id(study: Study) -> str:
    """Return Orthanc's own identifier of a study."""
    return ORTHANC.deletions[0].path(study.patient_id, study.study_uid).removeprefix("/studies/")


class Archive:
    """A server with studies: it lists a page at a time, and can delete in one of two ways, or in none."""

    def __init__(
        self,
        studies: dict[str, str],
        *,
        deletes: str = "",
        page: int = 200,
        ignores_keys: bool = False,
        status: int = 200,
    ) -> None:
        self.studies = {Study(patient, study) for patient, study in studies.items()}
        self._deletes = deletes
        self._page = page
        self._ignores_keys = ignores_keys
        self._status = status
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Answer to a query or a deletion."""
        self.asked.append(f"{request.method} {request.path}")
        if request.method == "GET":
            return self._list(request)
        if not self._deletes or not request.path.startswith(self._deletes):
            return web.Response(status=405)
        name = request.path.rpartition("/")[2]
        gone = {study for study in self.studies if name in (study.study_uid, orthanc_id(study))}
        self.studies -= gone
        return web.Response(status=200 if gone else 404)

    def _list(self, request: web.Request) -> web.Response:
        pattern = re.escape(request.query.get("PatientID", "*")).replace(r"\*", ".*")
        if self._ignores_keys:
            pattern = ".*"
        found = sorted(
            (study for study in self.studies if re.fullmatch(pattern, study.patient_id)), key=lambda s: s.study_uid
        )
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 200))
        items = [
            {
                "00100020": {"vr": "LO"} | ({"Value": [study.patient_id]} if study.patient_id else {}),
                "0020000D": {"vr": "UI", "Value": [study.study_uid]},
            }
            for study in found[offset : offset + min(limit, self._page)]
        ]
        return web.Response(status=self._status, text=json.dumps(items))


@asynccontextmanager
async def place(archive: Archive, **changes: Any) -> AsyncIterator[removal.TestServer]:
    """Serve an archive and give it as the place of a run."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", archive.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        settings = DestinationSettings(url=f"http://127.0.0.1:{port}/pacs/dicom-web", **changes)
        async with open_test_server(settings, login(settings, {})) as found:
            yield found
    finally:
        await runner.cleanup()


BY_DICOMWEB = "/pacs/dicom-web/studies/2.25."
BY_ORTHANC = "/pacs/studies/"


@pytest.mark.parametrize("page", [200, 2])
@pytest.mark.parametrize("deletes", [BY_DICOMWEB, BY_ORTHANC])
@pytest.mark.parametrize("ignores_keys", [False, True])
async def test_a_run_is_deleted_and_nothing_else(deletes: str, page: int, ignores_keys: bool) -> None:
    """Whatever way the server has, page by page; a server that lists all that it has loses nothing of others'."""
    archive = Archive(OURS | OTHERS, deletes=deletes, page=page, ignores_keys=ignores_keys)
    heard: list[int] = []
    async with place(archive) as found:
        assert await found.remove(TAG, on_listed=heard.append) == Removal(5, 0)
        assert await found.remove(TAG, on_listed=heard.append) == Removal(0, 0)
    assert heard == [5]
    assert archive.studies == {Study(patient, study) for patient, study in OTHERS.items()}
    deleted = {asked for asked in archive.asked if asked.startswith("DELETE")}
    assert not any(uid in asked for asked in deleted for uid in ("1.2.3", "1.2.4", "2.25.77"))


async def test_a_server_that_deletes_nothing_says_so() -> None:
    """It is asked in both ways, for one study, and not for all the others."""
    archive = Archive(OURS)
    async with place(archive) as found:
        removal = await found.remove(TAG)
    assert (removal.removed, removal.left) == (0, 5)
    assert "HTTP 405; Orthanc's own DELETE /studies/" in removal.why
    assert len([asked for asked in archive.asked if asked.startswith("DELETE")]) == 2


async def test_the_profile_says_how_to_delete() -> None:
    """A server that is known to be an Orthanc is asked in its own way only."""
    archive = Archive(OURS, deletes=BY_ORTHANC)
    async with place(archive, server_profile="orthanc") as found:
        assert await found.remove(TAG) == Removal(5, 0)
    deleted = [asked for asked in archive.asked if asked.startswith("DELETE")]
    assert all(asked.startswith(f"DELETE {BY_ORTHANC}") for asked in deleted)
    assert len(deleted) == 5


async def test_a_server_that_only_says_that_it_deletes() -> None:
    """What is listed all the same is left, and that ends the attempts."""

    class Liar(Archive):
        async def answer(self, request: web.Request) -> web.Response:
            return web.Response(status=204) if request.method == "DELETE" else await super().answer(request)

    async with place(Liar(OURS)) as found:
        removal = await found.remove(TAG)
    assert (removal.removed, removal.left) == (0, 5)
    assert "lists them still" in removal.why


@pytest.mark.parametrize("uid", ["../../modalities", "..", "2.25.1/series/2", "2.25.1?force", "2.25.1#", "", "%2e%2e"])
async def test_what_is_no_uid_is_put_into_no_url(uid: str) -> None:
    """A server's listing does not decide which paths are deleted."""
    archive = Archive({f"{TAG}.00001": uid}, deletes="/")
    async with place(archive) as found:
        removal = await found.remove(TAG)
    assert (removal.removed, removal.left) == (0, 1)
    assert removal.why.startswith("the server lists a study whose UID is none")
    assert not any(asked.startswith("DELETE") for asked in archive.asked)


async def test_a_server_that_lists_nothing_is_told() -> None:
    """Then nobody knows what is left."""
    async with place(Archive(OURS, status=501)) as found:
        assert await found.remove(TAG) == Removal(0, None, "QIDO-RS: HTTP 501")


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (Archive(OTHERS), "the server holds studies already"),
        (Archive({"": "1.2.3"}), "the server holds studies already"),
        (Archive({}, status=404), "cannot see whether the server is empty (QIDO-RS: HTTP 404)"),
    ],
    ids=["others", "anonymous", "no QIDO-RS"],
)
async def test_only_an_empty_server_is_loaded(archive: Archive, says: str) -> None:
    """One that holds something, or does not say, is refused, with the way out; one study is asked for."""
    async with place(archive) as found:
        with pytest.raises(ConfigurationError) as refused:
            await found.check_empty()
    assert str(refused.value).startswith(says)
    assert "--yes-this-is-a-test-server" in str(refused.value)


@pytest.mark.parametrize("status", [200, 204])
async def test_an_empty_server_may_be_loaded(status: int) -> None:
    """An empty list and no content are both empty."""
    async with place(Archive({}, status=status)) as found:
        await found.check_empty()


@pytest.mark.parametrize(
    ("root", "levels_up", "above"),
    [
        ("http://host:8042/dicom-web", 0, "http://host:8042/dicom-web"),
        ("http://host:8042/dicom-web", 1, "http://host:8042"),
        ("https://host/pacs/dicom-web", 1, "https://host/pacs"),
        ("https://host/pacs/dicom-web", 2, "https://host"),
        ("http://host:8042", 1, "http://host:8042"),
    ],
)
def test_an_interface_above_the_dicomweb_root(root: str, levels_up: int, above: str) -> None:
    """Segments of the path are left out from its end, and never the host."""
    assert root_above(root, levels_up) == above
