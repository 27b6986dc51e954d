"""The production database and the front end's journal."""

from ninefold.store.rows import Conflict, Joined, Measurement, Run
from ninefold.store.store import Store, open_store
from ninefold.store.writing import Written

__all__ = ["Conflict", "Joined", "Measurement", "Run", "Store", "Written", "open_store"]
