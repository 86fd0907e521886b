"""Folders: image files found, results written."""
