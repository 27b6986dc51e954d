"""Fixtures of the front end's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

from parcel_house import House, ToyModel, toy_model


@pytest.fixture(scope="session")
def shared_model() -> Iterator[ToyModel]:
    with toy_model() as model:
        yield model


@pytest.fixture
def model(shared_model: ToyModel) -> ToyModel:
    shared_model.mode("good")
    return shared_model


@pytest.fixture
def house() -> Iterator[House]:
    built = House()
    yield built
    built.online.close()
