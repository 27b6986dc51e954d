"""Benchmarks: every number that Ninefold claims, as a ratio measured in one run."""
