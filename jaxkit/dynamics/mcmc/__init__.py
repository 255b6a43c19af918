"""Noisy motion towards a density: one algorithm in each file, with `sample` in front."""
