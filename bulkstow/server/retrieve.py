"""WADO-RS: studies, series and instances as they were stored, byte for byte; their metadata, frames and bulk data.

Finds the instances of a resource, and answers as PS3.18 §10.4 says. Nothing is transcoded: an instance is sent in the
transfer syntax in which it is stored, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from anyio import to_thread

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.server import media, message, metadata, urls
from bulkstow.server.frames import frames
from bulkstow.server.message import FilePart, Part
from bulkstow.server.read_terms import ReadTerms
from bulkstow.server.storage import Storage
from bulkstow.wire.multipart import DICOM

T = TypeVar("T")

TermsOf = Callable[[web.Request], Awaitable[ReadTerms]]
"""Returns the terms on which a retrieval is answered; may raise a web.HTTPException, which is then the answer."""

MULTIPART = "multipart/related"
OCTETS = "application/octet-stream"


def routes(root: str, storage: Storage, terms_of: TermsOf) -> list[web.RouteDef]:
    """Return the routes of a storage's instances below the DICOMweb root."""
    retrieval = _Retrieval(root, storage, terms_of)
    study = f"{root}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    handlers = [
        *((path, retrieval.files) for path in (study, series, instance)),
        *((f"{path}/metadata", retrieval.metadata) for path in (study, series, instance)),
        (f"{instance}/frames/{{frames}}", retrieval.frames),
        (f"{instance}/bulkdata/{{bulk:.+}}", retrieval.bulk_data),
    ]
    return [web.get(path, partial(_answer, handler), allow_head=False) for path, handler in handlers]


async def _answer(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], request: web.Request
) -> web.StreamResponse:
    try:
        return await handler(request)
    except FileNotFoundError:  # also one that is deleted meanwhile
        return _error(404, "nothing is kept here")
    except HeadError as error:
        return _error(500, str(error))


class _Retrieval:
    def __init__(self, root: str, storage: Storage, terms_of: TermsOf) -> None:
        self._root = root
        self._storage = storage
        self._terms_of = terms_of

    async def files(self, request: web.Request) -> web.StreamResponse:
        """Answer with the files of all instances of the resource."""
        accepted = media.accepted(_accept(request), MULTIPART, DICOM)
        if not accepted.is_acceptable:
            return _error(406, f'instances are sent as multipart/related; type="{DICOM}"')
        terms = await self._terms_of(request)
        found = self._found(request)
        if terms.is_other_instance:
            found = self._others(found)
        parts = await to_thread.run_sync(lambda: [FilePart(path, path.stat().st_size) for _, path in found])
        kept = await to_thread.run_sync(_transfer_syntaxes, found) if accepted.transfer_syntaxes else set()
        if accepted.transfer_syntaxes and not kept <= accepted.transfer_syntaxes:
            return _error(406, f"there are instances in {', '.join(sorted(kept))}, and none is transcoded")
        return await message.send(request, DICOM, parts, sent_share=terms.sent_share)

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """Answer with the metadata of all instances of the resource, one after the other, as a JSON list."""
        notation = next((name for name in media.JSON_NAMES if media.accepted(_accept(request), name).is_acceptable), "")
        if not notation:
            return _error(406, f"metadata is sent as {media.JSON}")
        documents = self._documents(request, self._found(request))
        first = await anext(documents)
        response = web.StreamResponse(headers={"Content-Type": notation})
        await response.prepare(request)
        await response.write(b"[" + first)
        try:
            async for document in documents:
                await response.write(b"," + document)
        except (OSError, HeadError):
            message.break_off(request)
            return response
        await response.write(b"]")
        await response.write_eof()
        return response

    async def frames(self, request: web.Request) -> web.StreamResponse:
        """Answer with frames of an instance, in the order of the request."""
        if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", request.match_info["frames"]):
            return _error(400, "frames are numbers from 1, with commas between them")
        numbers = [int(number) for number in request.match_info["frames"].split(",")]
        part_type, parts = await self._read(request, lambda path: frames(path, numbers))
        if not media.accepted(_accept(request), MULTIPART, part_type).is_acceptable:
            return _error(406, f'its frames are sent as multipart/related; type="{part_type}"')
        return await message.send(request, part_type, parts)

    async def bulk_data(self, request: web.Request) -> web.StreamResponse:
        """Answer with the value of a BulkDataURI of the metadata."""
        place = request.match_info["bulk"]
        if not metadata.BULK_PATH.fullmatch(place):
            raise FileNotFoundError
        if not media.accepted(_accept(request), MULTIPART, OCTETS).is_acceptable:
            return _error(406, f'bulk data is sent as multipart/related; type="{OCTETS}"')
        value: Part = await self._read(request, lambda path: metadata.bulk_data(path, place))
        return await message.send(request, OCTETS, [value])

    async def _read(self, request: web.Request, read: Callable[[Path], T | None]) -> T:
        """Return what `read` returns for the file of the instance. Raises FileNotFoundError if that is None."""
        value = await to_thread.run_sync(read, self._found(request)[0][1])
        if value is None:
            raise FileNotFoundError
        return value

    def _found(self, request: web.Request) -> list[tuple[Header, Path]]:
        """Return the instances of a resource with their files; the UIDs of a URL never become part of a path.

        Raises FileNotFoundError if there is none.
        """
        named = request.match_info
        catalogue = self._storage.catalogue
        held = [catalogue.find(named["instance"])] if "instance" in named else catalogue.instances(named["study"])
        headers = [one.header for one in held if one is not None and one.header.study_uid == named["study"]]
        if "series" in named:
            headers = [header for header in headers if header.series_uid == named["series"]]
        found = [(header, path) for header in headers if (path := self._storage.path(header)) is not None]
        if not found:
            raise FileNotFoundError
        return found

    def _others(self, found: Sequence[tuple[Header, Path]]) -> list[tuple[Header, Path]]:
        """Return the next instance of the study instead of each; the same one if the study has no other."""
        study = [held.header for held in self._storage.catalogue.instances(found[0][0].study_uid)]
        after = dict(zip(study, [*study[1:], study[0]], strict=True))
        others = [after[header] for header, _ in found]
        return [(header, path) for header in others if (path := self._storage.path(header)) is not None]

    async def _documents(self, request: web.Request, found: Sequence[tuple[Header, Path]]) -> AsyncIterator[bytes]:
        for header, path in found:
            place = f"{header.study_uid}/series/{header.series_uid}/instances/{header.sop_instance_uid}"
            url = urls.absolute(request, f"{self._root}/studies/{place}")
            yield await to_thread.run_sync(metadata.document, path, url)


def _transfer_syntaxes(found: Sequence[tuple[Header, Path]]) -> set[str]:
    """Return the transfer syntaxes of instances; for those of an earlier process, files are read."""
    return {header.transfer_syntax_uid or metadata.transfer_syntax(path) for header, path in found}


def _accept(request: web.Request) -> str:
    return ",".join(request.headers.getall("Accept", []))


def _error(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
