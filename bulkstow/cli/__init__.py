"""The command line: one module a command.

Owns words, exit statuses and what goes to standard output and standard error. No traceback reaches a user for what
the user can mend.
"""

from bulkstow.cli.app import main

__all__ = ["main"]
