"""Verification: compares what a server has with a ledger or a source."""
