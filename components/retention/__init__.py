"""Retention: what is past its age goes, by one policy."""
