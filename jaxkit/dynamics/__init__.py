"""Motion: solve, unroll, root, and the analysis of what they find."""
