"""Rest points, zeros, best fits: `root`, `fixed_point`, `least_squares`."""
