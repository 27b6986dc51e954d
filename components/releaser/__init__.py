"""Puts a package into the model store and makes it known."""
