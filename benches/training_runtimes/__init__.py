"""Trainers that `benches/train.py` compares, and what checks, measures and reports them."""
