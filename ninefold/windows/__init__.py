"""Sliding-window features: one declaration, several executions with equal values."""

from ninefold.windows.declaration import KNOWN_AT, Aggregate, Window

__all__ = ["KNOWN_AT", "Aggregate", "Window"]
