"""`python -m bulkstow`."""

from bulkstow.cli import main

main()
