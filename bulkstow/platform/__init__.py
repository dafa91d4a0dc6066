"""The differences between operating systems: a small module for each subject, with fallbacks that work everywhere."""
