"""Results of QIDO-RS in DICOM JSON (PS3.18 §10.6.3): the few attributes that are needed of each."""

from __future__ import annotations

from typing import Any

from bulkstow.wire.bounded import parse_json
from bulkstow.wire.server_text import text_of

_SOP_INSTANCE_UID = "00080018"
_STUDY_UID = "0020000D"
_STUDY_INSTANCES = "00201208"
"""Number of Study Related Instances."""

_PADDING = "\0 "


def instances_in(body: bytes, study_uid: str) -> tuple[str, ...]:
    """Return the SOP Instance UIDs of a study's instances, in the order of the results.

    Raises ValueError for anything else, and for an instance of another study, which proves nothing about this one.
    """
    items = _items(body)
    try:  # one for all results: a call for each takes as long as a third of the parsing
        found = tuple([str(item[_SOP_INSTANCE_UID]["Value"][0]).rstrip(_PADDING) for item in items])
        studies = {str(item[_STUDY_UID]["Value"][0]).rstrip(_PADDING) for item in items if _STUDY_UID in item}
    except (LookupError, TypeError):
        raise ValueError("a result without SOP Instance UID") from None
    if not studies <= {study_uid}:
        raise ValueError("a result of another study")
    return found


def studies_in(body: bytes) -> dict[str, int | None]:
    """Return the number of instances by Study Instance UID; None if the server does not tell it.

    Raises ValueError for anything else than a list of studies.
    """
    try:
        return {str(item[_STUDY_UID]["Value"][0]).rstrip(_PADDING): _count(item) for item in _items(body)}
    except (LookupError, TypeError):
        raise ValueError("a result without Study Instance UID") from None


def _items(body: bytes) -> list[Any]:
    text = text_of(body)
    items = parse_json(text) if text else []
    if not isinstance(items, list):
        raise ValueError("expected a list")  # noqa: TRY004 - the one error of broken results
    return items


def _count(item: Any) -> int | None:  # noqa: ANN401 - JSON
    try:
        return int(item[_STUDY_INSTANCES]["Value"][0])  # Orthanc has a number, others a text
    except (LookupError, TypeError, ValueError):
        return None
