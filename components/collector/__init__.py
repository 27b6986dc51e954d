"""Brings truths and events of the outside world into the store."""
