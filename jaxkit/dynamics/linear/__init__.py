"""Jacobians, linear solves, and the one implicit derivative that all rest points use."""
