"""Runtimes that `benches/peers.py` compares, and what measures and reports them."""
