"""Weights: from a file of any format to a network that runs."""
