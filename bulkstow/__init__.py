"""Bulk uploads of DICOM files to DICOMweb servers."""
