"""Relativistic adversarial training: two players, and the theory that says when they meet."""
