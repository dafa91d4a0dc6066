"""Names of SOP classes and transfer syntaxes, from the dictionary of pydicom (PS3.6 Annex A)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def name_of_uid(uid: str | None) -> str:
    """Return the name of a SOP class or transfer syntax; the UID itself if PS3.6 has none."""
    if not uid:
        return "not known" if uid is None else "none"
    if uid not in _dictionary():
        return uid
    name, _, _, retired, _ = _dictionary()[uid]
    return f"{name} (retired)" if retired else name


@cache
def _dictionary() -> Mapping[str, tuple[str, str, str, str, str]]:
    """Load only the module of the dictionary: importing all of pydicom, with NumPy, takes 0.8 s and 55 MB."""
    package = find_spec("pydicom")
    if package is None or package.origin is None:
        return {}
    spec = spec_from_file_location("_pydicom_uid_dict", Path(package.origin).with_name("_uid_dict.py"))
    if spec is None or spec.loader is None:
        return {}
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    names: Mapping[str, tuple[str, str, str, str, str]] = module.UID_dictionary
    return names
