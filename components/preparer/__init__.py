"""Sanitises, splits and balances data sets."""
