"""The load tester: loads made on the fly, latencies that hide nothing, and a verdict on whether to trust them."""
