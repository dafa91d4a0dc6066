"""Results of QIDO-RS in DICOM JSON (PS3.18 §10.6.3): the few attributes that are needed of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bulkstow.model import Header
from bulkstow.wire.bounded import parse_json
from bulkstow.wire.server_text import text_of
from bulkstow.wire.study_attributes import modality_of, study_date_of

_SOP_CLASS_UID = "00080016"
_SOP_INSTANCE_UID = "00080018"
_STUDY_DATE = "00080020"
_MODALITY = "00080060"
_MODALITIES_IN_STUDY = "00080061"
_AVAILABLE_TRANSFER_SYNTAX_UID = "00083002"
_STUDY_UID = "0020000D"
_SERIES_UID = "0020000E"
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


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """A study in a list of studies; None for attributes that the server does not return."""

    uid: str
    instances: int | None = None
    study_date: str | None = None
    """As YYYYMMDD; empty if the server's value is no date."""
    modalities: frozenset[str] | None = None


def listed_studies(body: bytes) -> tuple[ListedStudy, ...]:
    """Return the studies of a list, in its order. Raises ValueError for anything else than a list of studies."""
    try:
        return tuple(
            ListedStudy(
                uid=str(item[_STUDY_UID]["Value"][0]).rstrip(_PADDING),
                instances=_count(item),
                study_date=_study_date(item),
                modalities=frozenset(map(_modality, _values(item, _MODALITIES_IN_STUDY))) or None,
            )
            for item in _items(body)
        )
    except (LookupError, TypeError):
        raise ValueError("a result without Study Instance UID") from None


def series_in(body: bytes, study_uid: str) -> tuple[str, ...]:
    """Return the Series Instance UIDs of a study's series, in the order of the results.

    Raises ValueError for anything else, and for a series of another study.
    """
    try:
        items = _items(body)
        found = tuple(str(item[_SERIES_UID]["Value"][0]).rstrip(_PADDING) for item in items)
    except (LookupError, TypeError):
        raise ValueError("a result without Series Instance UID") from None
    _check_study(items, study_uid)
    return found


def headers_in(body: bytes, study_uid: str, series_uid: str = "") -> tuple[Header, ...]:
    """Return the UIDs of a study's instances, in the order of the results; `series_uid` if those of one are listed.

    A missing attribute is empty, or None for modality and study date. Raises ValueError for anything else,
    and for an instance of another study or series.
    """
    try:
        items = _items(body)
        found = tuple(_header(item, study_uid, series_uid) for item in items)
    except (LookupError, TypeError):
        raise ValueError("a result without SOP Instance UID or Series Instance UID") from None
    _check_study(items, study_uid)
    if series_uid and any(header.series_uid != series_uid for header in found):
        raise ValueError("a result of another series")
    return found


def _header(item: Mapping[str, Any], study_uid: str, series_uid: str) -> Header:
    series = str(item[_SERIES_UID]["Value"][0]) if _SERIES_UID in item or not series_uid else series_uid
    modalities = _values(item, _MODALITY)
    return Header(
        study_uid=study_uid,
        series_uid=series.rstrip(_PADDING),
        sop_instance_uid=str(item[_SOP_INSTANCE_UID]["Value"][0]).rstrip(_PADDING),
        sop_class_uid=_first(item, _SOP_CLASS_UID),
        transfer_syntax_uid=_first(item, _AVAILABLE_TRANSFER_SYNTAX_UID),
        modality=_modality(modalities[0]) if modalities else None,
        study_date=_study_date(item),
    )


def _check_study(items: list[Any], study_uid: str) -> None:
    if any(_first(item, _STUDY_UID) != study_uid for item in items if _STUDY_UID in item):
        raise ValueError("a result of another study")


def _values(item: Mapping[str, Any], tag: str) -> list[Any]:
    """Return the values of an attribute; none if the server does not tell it."""
    attribute = item.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return [value for value in values if value is not None] if isinstance(values, list) else []


def _first(item: Mapping[str, Any], tag: str) -> str:
    values = _values(item, tag)
    return str(values[0]).rstrip(_PADDING) if values else ""


def _modality(value: object) -> str:
    return modality_of(str(value).encode("utf-8", "replace"))


def _study_date(item: Mapping[str, Any]) -> str | None:
    values = _values(item, _STUDY_DATE)
    return study_date_of(str(values[0]).encode("utf-8", "replace")) if values else None


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
