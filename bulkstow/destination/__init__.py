"""Where instances go: a DICOMweb server."""
