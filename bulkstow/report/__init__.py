"""Reports on ledgers: files, studies, reasons and modalities, and the page for the sign-off of a migration."""
