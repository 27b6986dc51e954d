"""Ninefold on Kubernetes: manifests, what checks them, and what makes a small cluster's secrets."""
