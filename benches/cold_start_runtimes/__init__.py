"""The processes that `benches/cold_start.py` starts: one makes the models, the others are timed."""
