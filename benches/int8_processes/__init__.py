"""The processes that `benches/int8.py` starts."""
