"""Results of QIDO-RS in DICOM JSON (PS3.18 §10.6.3): the few attributes that are needed of each."""

from __future__ import annotations

from typing import Any

from bulkstow.wire.bounded import parse_json
from bulkstow.wire.server_text import text_of

_SOP_INSTANCE_UID = "00080018"
_STUDY_UID = "0020000D"
_STUDY_INSTANCES = "00201208"
"""Number of Study Related Instances."""


def instances_in(body: bytes) -> tuple[str, ...]:
    """Return the SOP Instance UIDs of the results, in their order. Raises ValueError for anything else."""
    return tuple([_uid(item, _SOP_INSTANCE_UID) for item in _items(body)])


def studies_in(body: bytes) -> dict[str, int | None]:
    """Return the number of instances by Study Instance UID; None if the server does not tell it.

    Raises ValueError for anything else than a list of studies.
    """
    return {_uid(item, _STUDY_UID): _count(item) for item in _items(body)}


def _items(body: bytes) -> list[Any]:
    text = text_of(body)
    items = parse_json(text) if text else []
    if not isinstance(items, list):
        raise ValueError("expected a list")  # noqa: TRY004 - the one error of broken results
    return items


def _uid(item: Any, tag: str) -> str:  # noqa: ANN401 - JSON
    try:
        uid = item[tag]["Value"][0]
    except (LookupError, TypeError):
        raise ValueError(f"a result without {tag}") from None
    return str(uid).rstrip("\0 ")


def _count(item: Any) -> int | None:  # noqa: ANN401 - JSON
    try:
        return int(item[_STUDY_INSTANCES]["Value"][0])  # Orthanc has a number, others a text
    except (LookupError, TypeError, ValueError):
        return None
