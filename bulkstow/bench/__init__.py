"""The load tester: generated loads, complete latencies, and a check of whether the figures are the server's."""
