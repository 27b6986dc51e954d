"""Searches for the best model of a training set and packages it."""

GREATEST_SEED = 2**31 - 1
"""What every library that is seeded takes."""
