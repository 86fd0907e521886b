"""What `benches/cold_start.py` starts: a process that makes the models, and those it times."""
