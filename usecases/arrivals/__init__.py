"""Arrivals: at departure, predict how late a flight from New York will arrive."""

from usecases.arrivals.contract import USE_CASE

__all__ = ["USE_CASE"]
