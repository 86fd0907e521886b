"""Text for a terminal: progress and tables."""
