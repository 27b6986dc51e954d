"""Searches for the best model of a training set and packages it."""
