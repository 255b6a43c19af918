"""Descent: parameters from data."""
