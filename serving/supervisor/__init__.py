"""Serves a use case on one machine: a process a version, front end and collector, kept as the store wants them."""
