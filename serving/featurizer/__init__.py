"""Keeps windows current as events arrive."""
