"""Continuous motion: `solve`, `ensemble`, `sensitivity`."""
