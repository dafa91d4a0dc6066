"""Another DICOMweb server as a source: instances are listed by QIDO-RS, and fetched by WADO-RS into the spool."""
