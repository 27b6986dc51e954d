"""Reviews: from the text of a product review, predict whether its author found the product great."""

from usecases.reviews.contract import USE_CASE

__all__ = ["USE_CASE"]
