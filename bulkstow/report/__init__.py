"""Reports on ledgers: files, studies, reasons and modalities, and the page that a migration ends with."""
