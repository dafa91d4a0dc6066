"""The embedded STOW-RS origin, for demonstrations, tests and measurements."""
