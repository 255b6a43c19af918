"""Noisy motion towards a density: one algorithm a file, `sample` in front."""
