"""Tests of another DICOMweb server as a source."""
