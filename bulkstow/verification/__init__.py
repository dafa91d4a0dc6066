"""Verification: compares the instances of a server with a ledger or a source."""
