"""`python -m bulkstow`."""

import os

try:
    from bulkstow.cli import main
except KeyboardInterrupt:
    os._exit(130)  # errors.INTERRUPTED, which is not imported yet

main()
