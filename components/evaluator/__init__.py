"""Holds the test truths, is given predictions, answers with metrics; written before any model."""
