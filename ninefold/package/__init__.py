"""A model package: a folder named by its digest, with ``package.json`` (the manifest) and the files that it lists.

The digest is the SHA-256 of the canonical ``package.json``, which holds the SHA-256 of every other file: one digest,
kept outside of the package, vouches for all of it.
"""

from ninefold.package.files import ENVIRONMENT, MANIFEST, MODEL, MODELS, read_package, verify_package, write_package
from ninefold.package.predictors import (
    BOUNDED,
    OUTPUT,
    BaselinePredictor,
    OnnxPredictor,
    Predictor,
    load_predictor,
    predict_bounded,
    predictor_of,
)
from ninefold.package.rows import TENSORS, tensors

__all__ = [
    "BOUNDED",
    "ENVIRONMENT",
    "MANIFEST",
    "MODEL",
    "MODELS",
    "OUTPUT",
    "TENSORS",
    "BaselinePredictor",
    "OnnxPredictor",
    "Predictor",
    "load_predictor",
    "predict_bounded",
    "predictor_of",
    "read_package",
    "tensors",
    "verify_package",
    "write_package",
]
