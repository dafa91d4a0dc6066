"""The output of a run for its user: progress, log lines, and the closing text."""
