"""Discrete motion: `unroll`, by scan or in parallel over time."""
