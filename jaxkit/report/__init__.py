"""Figures in one style, LaTeX documents, animations."""
