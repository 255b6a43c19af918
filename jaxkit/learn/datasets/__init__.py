"""Data sets: Gause's experiments (shipped), images (read from `$JAXKIT_DATA`), and toys with known densities."""
