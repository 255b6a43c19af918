"""Benchmarks: one script a claim, one shared harness."""
