"""How fast bulkstow is, beside its peers on the same machine: `python -m benchmarks TABLE`, from a checkout.

A table makes its corpus, starts its servers, runs every peer as a whole process, turn by turn, and prints medians,
spreads and ratios, with the goal and whether it holds. Ratios within one run are what counts: absolute times are the
machine's. Nothing here is a test, and no test looks at a clock.
"""
