"""Serves one package."""
