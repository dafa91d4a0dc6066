"""Tests against a real server: Orthanc with its DICOMweb plugin."""
