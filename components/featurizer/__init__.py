"""Computes features: batch views, windows, and the point-in-time join."""
