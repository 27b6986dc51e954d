"""Batch work, one folder per component."""
