"""The data that branches search on: features at every length once, and a data set of each choice."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from components.featurizer.candidates import dataset_at_lengths, features_at_lengths
from components.featurizer.steps import requests_and_truths, settings_on
from components.preparer.prepare import prepare
from components.preparer.split import Parts
from components.tuner.lengths import Lengths
from components.tuner.task import Features
from ninefold.dataset import PARTS, write_dataset
from ninefold.loading import load_use_case


def write_features(
    use_case: str, choices: Sequence[Lengths], snapshot: str, parts: Mapping[str, str], output: str
) -> None:
    """Computes the features of all parts at every length that some choice has.

    Args:
        use_case: Name or import path.
        choices: The choices of lengths.
        snapshot: Folder of the snapshot.
        parts: ``training``, ``validation``, ``test`` → examples.
        output: Parquet file.
    """
    declared = load_use_case(use_case)
    requests, _ = requests_and_truths(declared, pl.concat(pl.read_parquet(parts[name]) for name in PARTS))
    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_on(declared, Path(snapshot), Path(scratch))
        features_at_lengths(declared, requests, choices, settings).write_parquet(output)


def write_choice(found: Features, lengths: Lengths, folder: Path) -> tuple[str, str]:
    """Writes training and validation set of one choice of lengths, as the featurizer and the preparer would.

    Returns:
        Where they are.
    """
    use_case = load_use_case(found.use_case)
    examples = [pl.read_parquet(found.parts[name]) for name in PARTS]
    requests, truths = requests_and_truths(use_case, pl.concat(examples))
    frame, card = dataset_at_lengths(
        use_case, requests, pl.read_parquet(found.features), truths, lengths, reference=found.use_case
    )
    start, frames = 0, {}
    for name, part in zip(PARTS, examples, strict=True):
        frames[name] = frame.slice(start, part.height)
        start += part.height
    # The test set is here so that nothing of it is added to the training set; it goes no further.
    prepared = prepare(Parts(**frames, notes=json.loads(Path(found.notes).read_text())), use_case)
    uris = str(folder / "training.parquet"), str(folder / "validation.parquet")
    write_dataset(uris[0], prepared.training, card)
    write_dataset(uris[1], prepared.validation, card)
    return uris
