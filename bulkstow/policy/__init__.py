"""Decisions: batching, gates, retries, settlement. No I/O, no clock, no randomness of their own."""
