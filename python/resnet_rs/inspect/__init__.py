"""Looking inside a network: trace, summary, profile, compare, pictures."""
