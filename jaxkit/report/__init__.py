"""What a reader sees: figures in one style, LaTeX, animation."""
