"""Orthancs and object stores for these tests."""

from __future__ import annotations

from tests.orthanc.conftest import start_orthanc

__all__ = ["start_orthanc"]
