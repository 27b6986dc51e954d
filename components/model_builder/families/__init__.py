"""The kinds of models that a search tries: each proposes parameters, fits them, and draws what it fitted as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from components.model_builder.table import Array, Table, Task

if TYPE_CHECKING:
    import optuna

    from components.model_builder.onnx_export import Graph


@dataclass(frozen=True, slots=True)
class Control:
    """What a fit asks while it goes on.

    Args:
        out_of_time: Whether it has to stop now, with what it has.
        hopeless: (step, validation value so far) → whether it should give up.
    """

    out_of_time: Callable[[], bool]
    hopeless: Callable[[int, float], bool]


class HopelessTrial(Exception):
    """The fit gave up, because its control said that it is hopeless."""


class Answer(Protocol):
    """What is packaged: it predicts, and draws the same as ONNX."""

    def predict(self, table: Table) -> Array:
        """float64 [rows]: what was learnt, before the offset is added; the probability of 1 for a binary problem."""
        ...

    def draw(self, graph: Graph) -> str:
        """Adds the model to a graph and returns the name of its output, float32 [N]; the same value as ``predict``."""
        ...


class Fitted(Answer, Protocol):
    """A trained model."""

    @property
    def microseconds(self) -> float:
        """About what the graph takes for one row."""
        ...

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        ...

    def raw(self, table: Table) -> Array:
        """As ``predict``, but the logit of a probability, which loses nothing near 0 and 1."""
        ...

    def draw_raw(self, graph: Graph) -> str:
        """As ``draw``, but what ``raw`` answers."""
        ...


class Family(Protocol):
    """One kind of model, bound to one training and one validation set."""

    name: str
    varies: bool
    """Whether another seed gives another model."""

    @property
    def preparation(self) -> float:
        """Seconds that its first trial may need before it fits; it isn't begun with less."""
        ...

    @property
    def default(self) -> Mapping[str, Any]:
        """Parameters that are good on most data sets of this size: the first trial."""
        ...

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for the next trial, from the family's search space."""
        ...

    def fit(self, params: Mapping[str, Any], control: Control) -> Fitted:
        """Trains on the training set; may watch the validation set to know when to stop.

        Raises:
            HopelessTrial: The control said so.
        """
        ...

    def refit(self, params: Mapping[str, Any], fitted: Any, table: Table, seed: int, control: Control) -> Fitted:
        """Trains on another table for as long as a model of its own was trained, since nothing is left to watch.

        Args:
            params: The model's.
            fitted: The model, as ``fit`` returned it.
            table: What to train on.
            seed: Of every random choice.
            control: As for ``fit``; nothing is hopeless.
        """
        ...


def families(
    task: Task, train: Table, validation: Table, *, seed: int, threads: int, every: bool = False
) -> list[Family]:
    """The families that can learn the task, cheapest first.

    Args:
        task: What is to be learnt.
        train: The training set.
        validation: The validation set.
        seed: Of every random choice.
        threads: Of training.
        every: Whether those are among them, too, that earn their place in an average.
    """
    from components.model_builder.families.boosting import Boosting
    from components.model_builder.families.linear import Linear

    found: list[Family] = [Linear(task, train)]
    if task.names("number") or task.names("category"):
        found.append(Boosting(task, train, validation, seed=seed, threads=threads))
        if every:
            from components.model_builder.families.layered import Layered
            from components.model_builder.families.network import Networks

            found.append(Layered(task, train, validation, seed=seed, threads=threads))
            found.append(Networks(task, train, validation, seed=seed))
    return found
