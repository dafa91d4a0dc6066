"""Uploads from each kind of source by the command line: the same outcomes, also after a kill and after a loss."""
