"""Churn: from a customer's id alone, predict whether the customer will leave."""

from usecases.churn.contract import USE_CASE

__all__ = ["USE_CASE"]
