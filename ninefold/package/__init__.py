"""A model package: a folder named by its digest, with ``package.json`` (the manifest) and the files that it lists.

The digest is the SHA-256 of the canonical ``package.json``, which holds the SHA-256 of every other file: one digest,
kept outside of the package, vouches for all of it.
"""

from ninefold.package.files import MANIFEST, MODEL, read_package, verify_package, write_package
from ninefold.package.predictors import (
    BOUNDED,
    OUTPUT,
    TENSORS,
    BaselinePredictor,
    OnnxPredictor,
    Predictor,
    load_predictor,
    predict_bounded,
    tensors,
)

__all__ = [
    "BOUNDED",
    "MANIFEST",
    "MODEL",
    "OUTPUT",
    "TENSORS",
    "BaselinePredictor",
    "OnnxPredictor",
    "Predictor",
    "load_predictor",
    "predict_bounded",
    "read_package",
    "tensors",
    "verify_package",
    "write_package",
]
