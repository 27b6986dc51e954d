"""Deliveries: when a meal is ordered, predict when it will be there, and how sure that is."""

from usecases.deliveries.contract import USE_CASE

__all__ = ["USE_CASE"]
