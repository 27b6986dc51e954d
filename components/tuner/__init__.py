"""Searches window lengths and models together: branches, one for each choice of lengths, within one budget."""
