"""The processes of `benches/neighbours.py`, and their quotas."""
