"""A QIDO-RS server on a real socket, with the quirks of real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = web.StreamResponse | None


@dataclass
class QidoServer:
    """The instances of a server, by study, and its quirks; `before` may answer a request in its place."""

    held: dict[str, list[str]]
    page_instances: int = 1000
    """The most results of one page, for any `limit`."""
    most_limit: int | None = None
    """A larger `limit` is a bad request."""
    ignores_limit: bool = False
    ignores_offset: bool = False
    overlap: int = 0
    """The number of results that a page repeats from the page before it."""
    has_counts: bool = True
    lists_studies: bool = True
    """False if only the instances of a series can be listed."""
    no_match: int = 204
    padding: str = ""
    before: Callable[[web.Request, int], Answer] = lambda _request, _number: None
    requests: list[str] = field(default_factory=list)

    def add(self, *uids: str) -> None:
        """Add instances; the study of `2.25.S.R.N` is `2.25.S`."""
        for uid in uids:
            self.held.setdefault(".".join(uid.split(".")[:3]), []).append(uid)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        self.requests.append(request.path_qs.removeprefix("/dicom-web"))
        if (answer := self.before(request, len(self.requests))) is not None:
            return answer
        study = request.match_info.get("study")
        if study is None:
            return self._studies(request)
        if "series" not in request.match_info and not self.lists_studies:
            return web.Response(status=400, text="give a series")
        return self._instances(request, study)

    def _studies(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("StudyInstanceUID")
        items = []
        for study, uids in self.held.items():
            if uids and wanted in (None, study):
                item: dict[str, object] = {"0020000D": {"vr": "UI", "Value": [study]}}
                if self.has_counts:
                    item["00201208"] = {"vr": "IS", "Value": [len(uids)]}
                items.append(item)
        return self._page(items)

    def _instances(self, request: web.Request, study: str) -> web.StreamResponse:
        uids = self.held.get(study, [])
        if wanted := request.query.get("SOPInstanceUID"):
            return self._page(_items([uid for uid in uids if uid == wanted], self.padding))
        limit, offset = int(request.query["limit"]), int(request.query["offset"])
        if self.most_limit is not None and limit > self.most_limit:
            return web.Response(status=400, text="limit too large")
        limit = len(uids) if self.ignores_limit else min(limit, self.page_instances)
        offset = 0 if self.ignores_offset else offset
        if self.overlap and offset:
            # As if so many instances had been stored at the front since the page before.
            repeated = offset // self.page_instances * self.overlap
            return self._page(_items(uids[offset - repeated :][:limit], self.padding))
        return self._page(_items(uids[offset : offset + limit], self.padding))

    def _page(self, items: list[dict[str, object]]) -> web.StreamResponse:
        if not items:
            body = b"" if self.no_match == 204 else b"[]"
            return web.Response(status=self.no_match, body=body)
        return web.Response(body=json.dumps(items).encode(), content_type="application/dicom+json")


def _items(uids: list[str], padding: str) -> list[dict[str, object]]:
    return [{"00080018": {"vr": "UI", "Value": [uid + padding]}} for uid in uids]


@asynccontextmanager
async def serving(server: QidoServer) -> AsyncIterator[str]:
    """Serve on a free port, and give the URL."""
    app = web.Application()
    for path in ("/studies", "/studies/{study}/instances", "/studies/{study}/series/{series}/instances"):
        app.router.add_get(f"/dicom-web{path}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/dicom-web"
    finally:
        await runner.cleanup()
