"""Energies: pits dug at the data, jumps into them, maximum entropy, and Langevin chains."""
