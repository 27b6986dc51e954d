"""Ninefold: the nine components of a real-world machine-learning system, closed into a loop."""

__version__ = "0.1.0"
