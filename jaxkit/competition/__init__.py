"""Two species that compete: from data to theorem."""
