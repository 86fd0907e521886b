"""Benchmarks: latency, throughput and the ladder of optimisations."""
