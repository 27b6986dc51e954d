"""The acts of the labelling demo: learn from few labels, ask, pick, have labelled, learn again, judge.

Everything is the product's: the training pipeline, the front end, the samplers, the tables of tasks and annotations.
Only the expert is simulated: it knows what the data set says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from components.evaluator.comparison import Comparison, compare
from components.evaluator.evaluation import Evaluation
from components.labeller.estimate import estimate
from components.labeller.projects import interface_of
from components.labeller.sampling.mix import Mix
from components.labeller.sampling.pick import Pick, pick
from components.labeller.selection import label_tasks, pool_of
from ninefold.clock import WallClock
from ninefold.errors import DataError, StepFailed, Unavailable
from ninefold.labelling.keeping import keep_annotations
from ninefold.labels import Annotation, LabelTask
from ninefold.loading import load_use_case
from ninefold.metrics import compute
from ninefold.package import load_predictor
from ninefold.records import derived_id
from ninefold.settings import Settings
from ninefold.store import Store
from ninefold.usecase import UseCase
from pipelines.labelling_recipe import OnlyLabels, compared, learned
from pipelines.launch import execute_run, request_run
from pipelines.live_check import wait_for_predictions
from pipelines.replay_run import front_end_session
from pipelines.run import Step

EXPERT = "simulated expert"
AT_ONCE = 50
"""Reviews of one call."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A model that a training run released.

    Args:
        labels: Labels that were known.
        result: The run's result.
        judged: Its predictions of the held-back reviews.
    """

    labels: int
    result: Mapping[str, Any]
    judged: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The reviews that nobody learns from.

    Args:
        request: Request columns.
        truth: 0 or 1.
    """

    request: dict[str, Array]
    truth: Array


@dataclass(slots=True)
class LabellingStory:
    """Where the story stands; its acts are its methods.

    Args:
        name: Import path of the use case with few labels.
        settings: Of the home where the story happens.
        store: Its production database.
        texts: Key → the review.
        truths: Key → what the expert will say.
        first: Keys of the labels that there were from the start.
        held: What models are judged on.
    """

    name: str
    settings: Settings
    store: Store
    texts: Mapping[str, str]
    truths: Mapping[str, float]
    first: Sequence[str]
    held: Held
    clock: WallClock = field(default_factory=WallClock)

    @property
    def use_case(self) -> UseCase:
        """The use case."""
        return load_use_case(self.name)

    def learn(self, labels: int, *, seconds: float, trials: int, on_step: Callable[[Step], None]) -> Learned:
        """Trains on what is known in this home, and has the model predict the held-back reviews.

        Args:
            labels: How many labels that is, for the record.
            seconds: What the search may take.
            trials: Models that it may fit; 0 for as many as time allows.
            on_step: Told whenever a step starts or ends.

        Raises:
            StepFailed: A step failed, or the candidate did not pass its gate.
        """
        asked = {"max_training_time": seconds, "max_trials": trials}
        run = request_run("training", self.name, asked, store=self.store, clock=self.clock)
        ended = execute_run(run, store=self.store, settings=self.settings, on_step=on_step)
        if ended is None:
            raise StepFailed("Another process took the demo's run.", remedy="Run one demo at a time.")
        result = ended[1]
        if result["version"] is None:
            raise StepFailed(f"The candidate was not released: {result['summary']}", remedy=f"See {result['report']}")
        version = self.store.version(self.use_case.name, result["version"])
        if version is None:
            raise DataError(f"Version {result['version']} was released, and the store does not know it.")
        inputs = self.use_case.inputs_of(self.held.request)
        return Learned(
            labels=labels, result=result, judged=load_predictor(version.uri, version.digest).predict_columns(inputs)
        )

    def baseline(self) -> Array:
        """What the baseline predicts of the held-back reviews."""
        return self.use_case.baseline(self.use_case.inputs_of(self.held.request))

    def ask(self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda _: None) -> int:
        """Asks the front end about reviews, and waits until the answers are in the store; how many fell back.

        Args:
            texts: The reviews.
            on_progress: Told how many are answered.

        Raises:
            Unavailable: The front end answers with an error.
        """
        name, fallbacks = self.use_case.name, 0
        with closing(front_end_session(self.settings)) as front_end:
            for start in range(0, len(texts), AT_ONCE):
                batch = texts[start : start + AT_ONCE]
                status, answer = front_end.post(
                    f"/v1/models/{name}:predict", {"instances": [{"input": text} for text in batch]}
                )
                if status != 200:
                    raise Unavailable(f"The front end answered {status}: {answer.get('error')}.")
                fallbacks += sum(one["fallback"] is not None for one in answer["predictions"])
                on_progress(start + len(batch))
        wait_for_predictions(self.store, name, len(texts))
        return fallbacks

    def pick(self, count: int, seed: int, draws: int) -> tuple[list[Pick], list[list[Pick]]]:
        """A batch of what production answered, by the default mix; and as many at random, several times.

        Args:
            count: Size of each.
            seed: Of the first; the others have the seeds after it.
            draws: How often at random.
        """
        pool, by_chance = pool_of(self.store, self.use_case), Mix.parse("random=1")
        return pick(pool, count, Mix(), seed), [pick(pool, count, by_chance, seed + i) for i in range(1, draws + 1)]

    def label(self, picks: Sequence[Pick], batch: str) -> int:
        """The simulated expert labels a batch, by the code that ``ninefold label collect`` keeps annotations with.

        Returns:
            How many truths came of it.
        """
        use_case, now = self.use_case, self.clock.now()
        tasks = label_tasks(use_case.name, picks, batch, now)
        self.store.record_label_tasks(tasks)
        said = [self._annotation(task, now) for task in tasks]
        return keep_annotations(self.store, interface_of(use_case), tasks, said, now=now).truths

    def _annotation(self, task: LabelTask, now: datetime) -> Annotation:
        value = self.truths[task.key]
        return Annotation(
            annotation_id=derived_id(task.task_id, EXPERT), use_case=task.use_case, task_id=task.task_id, key=task.key,
            annotator=EXPERT, value=value, outcome="labelled", said_at=now, received_at=now,
            label=interface_of(self.use_case).label_of(value),
        )  # fmt: skip

    def estimated(self) -> Evaluation:
        """How good the live version is on all that it answered, by the labels of the batch.

        Raises:
            DataError: No label tells.
        """
        found = estimate(self.store, self.use_case)
        if found is None:
            raise DataError("No label tells how good the live version is.")
        return found

    def real(self) -> tuple[float, float]:
        """The same as only the story knows it: on all that was answered, and on the labelled ones alone, unweighted."""
        answers = {one.key: one.value for one in self.store.predictions(self.use_case.name) if one.cohort != "shadow"}
        labelled = [key for key in self.store.labellers_truths(self.use_case.name) if key in answers]

        def value(keys: Sequence[str]) -> float:
            truth = np.array([self.truths[key] for key in keys])
            return compute(self.use_case.metric.name, truth, np.array([answers[key] for key in keys]))

        return value(list(answers)), value(labelled)

    def compare(self, reference: Array, challenger: Array) -> Comparison:
        """Two models on the held-back reviews."""
        return compare(
            self.use_case.metric, self.held.truth, reference, challenger, self.use_case.block(self.held.request)
        )

    def only_labels(self, picks: Sequence[Pick], draws: Sequence[Sequence[Pick]]) -> OnlyLabels:
        """By one recipe: the labels that were picked, and as many that chance drew, each with the first ones.

        Args:
            picks: What was picked.
            draws: What chance drew, each as many.
        """
        held = self.held.request["input"].tolist()

        def learn(chosen: Sequence[Pick]) -> Array:
            keys = [*self.first, *(one.key for one in chosen)]
            truth = np.array([self.truths[key] for key in keys])
            return learned(self.use_case, [self.texts[key] for key in keys], truth, held)

        return compared(self.use_case.metric.name, self.held.truth, learn(picks), [learn(one) for one in draws])
