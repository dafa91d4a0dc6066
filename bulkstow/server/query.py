"""QIDO-RS: searches in the catalogue, page by page (PS3.18 §10.6, §8.3.4).

Matches UIDs only: other keys are ignored, and `includefield` changes nothing, since every result has all known
attributes. After a restart results have no SOP Class UID: the names of files do not contain it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bulkstow.server.catalogue import Catalogue, Held
from bulkstow.server.read_terms import ReadTerms

PAGE_SIZE = 1000
"""The most results of one page, whatever `limit` says; the same as dcm4chee's."""

_DEPTHS = {"studies": 1, "series": 2, "instances": 3}
_KEYS = {
    "study": ("StudyInstanceUID", "0020000D"),
    "series": ("SeriesInstanceUID", "0020000E"),
    "instance": ("SOPInstanceUID", "00080018"),
}

Item = dict[str, dict[str, object]]
"""A result in DICOM JSON (PS3.18 Annex F)."""

_Uids = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the results."""

    items: list[Item]
    more: bool
    """True if further results follow."""


def search(
    catalogue: Catalogue,
    level: str,
    path: Mapping[str, str],
    parameters: Mapping[str, str],
    studies_url: str,
    terms: ReadTerms = ReadTerms(),  # noqa: B008 - frozen
) -> Page:
    """Return a page of the matching `studies`, `series` or `instances`, in the order of arrival or of the list.

    `path` has the UIDs of the resource as `study` and `series`, `parameters` the query; a key takes one UID or
    a list (PS3.4 §C.2.2.2.2). Raises ValueError, with a text for the client, if limit or offset is no number.
    """
    offset, limit = _number(parameters, "offset", 0), _number(parameters, "limit", PAGE_SIZE)
    wanted = {
        name: (path[name],) if name in path else _uids(parameters.get(keyword) or parameters.get(tag) or "")
        for name, (keyword, tag) in _KEYS.items()
    }
    depth = _DEPTHS[level]
    listed = (held for held in _matching(catalogue, **wanted) if held.stored_at_s <= terms.listed_until_s)
    rows = list(dict.fromkeys(_uids_of(held)[:depth] for held in listed))
    most = terms.page_instances or (len(rows) if terms.ignores_limit else PAGE_SIZE)
    size = most if terms.ignores_limit else min(limit, most)
    rows = _repeated(rows, size, terms.repeated_instances)
    first = 0 if terms.ignores_offset else offset
    items = [_item(catalogue, row, studies_url, terms) for row in rows[first : first + size]]
    return Page(items, more=first + size < len(rows))


def _repeated(rows: list[_Uids], size: int, repeated: int) -> list[_Uids]:
    """Return rows in which each page of `size` begins with the last `repeated` rows of the page before."""
    step = size - repeated
    if not repeated or step <= 0 or len(rows) <= size:
        return rows
    return [row for first in range(0, len(rows) - repeated, step) for row in rows[first : first + size]]


def _matching(catalogue: Catalogue, study: _Uids, series: _Uids, instance: _Uids) -> Iterator[Held]:
    """Yield the matching instances; an empty tuple matches any UID."""
    if instance:
        candidates = [held for uid in instance if (held := catalogue.find(uid))]
    elif study:
        candidates = [held for uid in study for held in catalogue.instances(uid)]
    else:
        candidates = catalogue.instances()
    for held in candidates:
        if (not study or held.header.study_uid in study) and (not series or held.header.series_uid in series):
            yield held


def _item(catalogue: Catalogue, row: _Uids, studies_url: str, terms: ReadTerms) -> Item:
    study, *below = row
    item = {"00081190": _attribute("UR", f"{studies_url}/{study}"), "0020000D": _attribute("UI", study)}
    match below:
        case [series, instance]:
            held = catalogue.find(instance)
            if held and held.header.sop_class_uid:
                item["00080016"] = _attribute("UI", held.header.sop_class_uid)
            item["00081190"] = _attribute("UR", f"{studies_url}/{study}/series/{series}/instances/{instance}")
            item |= {"00080018": _attribute("UI", instance), "0020000E": _attribute("UI", series)}
        case [series]:
            item["00081190"] = _attribute("UR", f"{studies_url}/{study}/series/{series}")
            counts = _counts(catalogue, study, terms)
            item |= {"0020000E": _attribute("UI", series), "00201209": _attribute("IS", counts.get(series, 0))}
        case _:
            counts = _counts(catalogue, study, terms)
            item |= {"00201206": _attribute("IS", len(counts)), "00201208": _attribute("IS", sum(counts.values()))}
    return item


def _counts(catalogue: Catalogue, study: str, terms: ReadTerms) -> Mapping[str, int]:
    """Return the listed instances of each series of a study."""
    if terms.listed_until_s == math.inf:
        return catalogue.series(study)
    listed = (held for held in catalogue.instances(study) if held.stored_at_s <= terms.listed_until_s)
    return Counter(held.header.series_uid for held in listed)


def _attribute(vr: str, value: object) -> dict[str, object]:
    return {"vr": vr, "Value": [value]}


def _uids_of(held: Held) -> _Uids:
    return held.header.study_uid, held.header.series_uid, held.header.sop_instance_uid


def _uids(text: str) -> _Uids:
    # Clients separate UIDs by the comma of a URL or the backslash of DICOM. Their order is kept, without repeats, so
    # that the pages of one query fit together.
    return tuple(uid for uid in dict.fromkeys(re.split(r"[,\\]", text)) if uid)


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{name} must be a number that is not negative")
    return int(text)
