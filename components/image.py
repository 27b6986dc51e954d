"""The image that every step runs in on a cluster; the local runner ignores it."""

from __future__ import annotations

IMAGE = "ninefold/pipeline:0.1.0-python3.11"
"""Placeholder default of the pipelines' ``image`` parameter; a run on a cluster passes one with a digest."""
