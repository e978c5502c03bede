"""Faults injected into whole runs: a short profile in the tests, a long one in `python -m tests.faults.soak`."""
