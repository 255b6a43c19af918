"""Noisy motion towards a density: one algorithm a file, `chain.sample` in front."""
