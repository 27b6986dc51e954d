"""Kubernetes: asking its API server, and what a version of a model is there."""
