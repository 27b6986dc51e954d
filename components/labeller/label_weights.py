"""What each label stands for, by what production holds of it."""

from __future__ import annotations

from components.labeller.sampling.weights import weights_of
from ninefold.store.store import Store


def label_weights(store: Store, use_case: str) -> dict[str, float]:
    """Key → what its label stands for, of the keys that labellers told a truth of; empty where nobody was asked.

    Args:
        store: The production database.
        use_case: Name of the use case.
    """
    tasks = store.label_tasks(use_case)
    return weights_of(tasks, store.labellers_truths(use_case), store.first_asked(use_case)) if tasks else {}
