"""PMML 4.4, as far as a package of ours goes: tree sums, regressions and chains of them, on numpy alone."""

from ninefold.package.pmml.predictor import PmmlPredictor

__all__ = ["PmmlPredictor"]
