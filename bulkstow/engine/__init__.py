"""Engines: run a pipeline with its resources."""
