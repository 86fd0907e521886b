"""Latency and throughput over threads, callers and processes, and which of them to choose."""
