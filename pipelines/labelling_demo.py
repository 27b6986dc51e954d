"""The labelling demo: few labels, a weak model; which answers to label next; what that was worth.

``make demo USE_CASE=reviews``, in a home of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from components.evaluator.blocks import LEVEL, Interval
from components.labeller.sampling.pick import Pick
from ninefold.dataset import to_numpy
from ninefold.errors import ConfigurationError
from ninefold.metrics import compute
from ninefold.settings import Settings, settings
from ninefold.store import open_store
from pipelines.demo_home import own_log, say_what_it_took, shown_home, start_over, stopped_when_interrupted
from pipelines.labelling_story import EXPERT, Held, LabellingStory, Learned
from pipelines.progress import step_lines, working
from serving.supervisor.addresses import curl_line
from serving.supervisor.foreground import start_detached
from serving.supervisor.supervisor import Supervisor

USE_CASE = "usecases.reviews.few_labels:USE_CASE"
BATCH = 600
"""Labels that the expert makes."""
SEED = 7
DRAWS = 10
"""Batches that chance draws, to compare with."""
MODELS = 4
"""Models that a search fits, so that it is short and ends alike on every machine."""
AT_MOST = 300.0
"""Seconds that fitting them may take."""


def run_labelling_demo(console: Console, *, max_training_time: float | None = None, batch: int = BATCH) -> None:
    """Runs the demo and leaves its services running.

    Args:
        console: Where it is told.
        max_training_time: Seconds of each search for a model; None for ``MODELS``.
        batch: Labels that the expert makes.

    Raises:
        StepFailed: A step failed, or a candidate did not pass its gate.
        ConfigurationError: The production database is none of the demo's own.
    """
    from usecases.reviews import few_labels

    started = time.monotonic()
    here = _home()
    start_over(console, here)
    asked, held = few_labels.asked(), few_labels.held_back()
    first, keys = few_labels.LABELLED, asked["review_id"].to_list()
    request = {name: to_numpy(held[name]) for name in ("input", "review_id")}
    with own_log(here), stopped_when_interrupted(console, here), open_store(here.store_url) as store:
        story = LabellingStory(
            name=USE_CASE, settings=here, store=store, held=Held(request=request, truth=held["truth"].to_numpy()),
            texts=dict(zip(keys, asked["input"], strict=True)), first=keys[:first],
            truths=dict(zip(keys, asked["truth"], strict=True)),
        )  # fmt: skip
        told = _Telling(console, story, max_training_time)
        weak = told.learn("1  Learn", f"{story.use_case.title} {first:,} labels are all there is", first)
        told.answers([story.texts[key] for key in keys[first:]])
        picks, draws = told.choice(batch)
        told.labels(picks)
        words = f"the {first:,} labels, and {len(picks):,} that the store holds now"
        told.verdict(weak, told.learn("5  Learn again", words, first + len(picks)), picks, draws)
        say_what_it_took(console, started)
        _next_steps(console, here)


class _Telling:
    """Tells the story's acts.

    Args:
        console: Where to.
        story: The story.
        seconds: Of each search; None for a few models.
    """

    def __init__(self, console: Console, story: LabellingStory, seconds: float | None) -> None:
        self._console = console
        self._story = story
        self._bounds = (AT_MOST, MODELS) if seconds is None else (seconds, 0)

    def learn(self, title: str, words: str, labels: int) -> Learned:
        """A training run, and what it is worth on what nobody learned from."""
        self._chapter(title, words)
        seconds, trials = self._bounds
        with step_lines(self._console) as lines:
            found = self._story.learn(labels, seconds=seconds, trials=trials, on_step=lines)
        self._say(
            f"Version {found.result['version']}: {self._metric(found.judged)} on the "
            f"{len(self._story.held.truth):,} reviews that are held back."
        )
        return found

    def answers(self, texts: Sequence[str]) -> None:
        """It serves, and is asked about all that nobody labelled."""
        story = self._story
        self._chapter("2  Serve", f"{len(texts):,} reviews come, and nobody knows what is in them")
        with working(self._console, "starting gateway, model servers, front end and collector"):
            start_detached(story.settings, story.name, model_only=False)
        with Progress(
            TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn(),
            console=self._console, disable=not self._console.is_terminal, transient=True,
        ) as progress:  # fmt: skip
            task = progress.add_task("asking the front end", total=len(texts))
            started = time.monotonic()
            fallbacks = story.ask(texts, lambda answered: progress.update(task, completed=answered))
        self._console.print(
            f"  [green]✓[/green] {len(texts):,} answers in the store, {fallbacks:,} by the baseline "
            f"[dim]({time.monotonic() - started:.1f} s)[/dim]",
            highlight=False,
        )

    def choice(self, batch: int) -> tuple[list[Pick], list[list[Pick]]]:
        """What active learning picks, and what chance draws, several times."""
        self._chapter("3  Pick", f"which {batch:,} of them should an expert look at?")
        with working(self._console, "picking"):
            picks, draws = self._story.pick(batch, SEED, DRAWS)
        counts = Counter(one.sampler for one in picks)
        self._say(", ".join(f"{count:,} by {name.replace('_', ' ')}" for name, count in counts.most_common()) + ".")
        for sampler in counts:
            one = next(p for p in picks if p.sampler == sampler)
            self._say(f"  {one.key}: {one.reason} Chance of being in the batch: {one.inclusion_probability:.3f}.")
        return picks, draws

    def labels(self, picks: Sequence[Pick]) -> None:
        """The simulated expert, and what its labels tell."""
        story = self._story
        self._chapter("4  Label", "a simulated expert, who knows what the data set says")
        made = story.label(picks, "picked")
        self._say(
            f"{made:,} truths by the {EXPERT}, kept as `ninefold label collect` keeps them. No Label Studio was asked: "
            "real experts have theirs by `ninefold label up`."
        )
        judged, (real, unweighted) = story.estimated(), story.real()
        name, value = story.use_case.metric.name.upper(), judged.value
        self._say(
            f"What {judged.label} is worth on all its answers, by these labels: {name} {value.value:.3f} "
            f"[{value.low:.3f}, {value.high:.3f}], each weighted by the inverse of its chance, as good as "
            f"{judged.effective_rows:,.0f} of equal weight. Unweighted they say {unweighted:.3f}: the hard ones were "
            f"picked. Only this story knows the truth of all: {real:.3f}."
        )

    def verdict(self, weak: Learned, better: Learned, picks: Sequence[Pick], draws: Sequence[Sequence[Pick]]) -> None:
        """Both models on the reviews that nobody learned from; and what active learning had to do with it."""
        story = self._story
        name = story.use_case.metric.name.upper()
        self._chapter("6  Judge", f"on {len(story.held.truth):,} reviews that nobody learned from")
        table = Table("", "labels", name)
        before = f"version {weak.result['version']}"
        for words, labels, judged in (
            ("the lexicon, version 0", 0, story.baseline()),
            (before, weak.labels, weak.judged),
            (f"version {better.result['version']}", better.labels, better.judged),
        ):
            table.add_row(words, f"{labels:,}", f"{self._value(judged):.3f}")
        self._console.print(table)
        self._say(difference(f"Against {before}", name, story.compare(weak.judged, better.judged).improvement))
        with working(self._console, f"learning by one recipe from what was picked, and from {DRAWS} draws at random"):
            found = story.only_labels(picks, draws)
        low, high = min(found.by_chance), max(found.by_chance)
        self._say(
            f"So that only the labels differ: {name} {found.picked:.3f} by the picked ones; by as many at random "
            f"{np.mean(found.by_chance):.3f} ({low:.3f} to {high:.3f} over {DRAWS} draws)."
        )
        self._say(difference("Against as many at random", name, found.gain))
        self._say(
            "What that saves, over 20 seeds and five folds: docs/active-learning.md; make bench BENCH=active_learning"
        )
        for sentence in better.result.get("then", ())[:1]:
            self._say(sentence)

    def _value(self, judged: np.ndarray) -> float:  # type: ignore[type-arg]
        return compute(self._story.use_case.metric.name, self._story.held.truth, judged)

    def _metric(self, judged: np.ndarray) -> str:  # type: ignore[type-arg]
        return f"{self._story.use_case.metric.name.upper()} {self._value(judged):.3f}"

    def _chapter(self, title: str, words: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{title}[/bold]: {words}", align="left")

    def _say(self, words: str) -> None:
        self._console.print(words, highlight=False, markup=False, soft_wrap=True)


def difference(against: str, metric: str, gain: Interval) -> str:
    """A difference in words that claim no more than its interval."""
    verdict = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not shown to differ"
    return (
        f"{against}: {gain.value:+.3f} {metric}, {LEVEL:.0%} interval [{gain.low:+.3f}, {gain.high:+.3f}]: {verdict}."
    )


def _home() -> Settings:
    here = Settings(home=settings().home / "demo-reviews")
    if here.store_url != f"sqlite:///{here.home / 'store.db'}":
        raise ConfigurationError(
            "The demo would begin anew in a production database that is not its own.",
            remedy="Unset NINEFOLD_STORE_URL.",
        )
    return here


def _next_steps(console: Console, here: Settings) -> None:
    console.print("\nIt still serves. Ask it about a review (explain: the same with :explain):", highlight=False)
    console.print(curl_line(Supervisor(here, USE_CASE)), highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"\nThen, with [bold]export NINEFOLD_HOME={shown_home(here)}[/bold]:\n"
        "  ninefold label up                   run Label Studio, where experts label; then, beside it:\n"
        f"  ninefold label send {USE_CASE} --count 50\n"
        f"  ninefold label collect {USE_CASE}\n"
        f"  ninefold run labelling {USE_CASE}\n"
        "                                      both in one, as it runs every day\n"
        "  ninefold rollout history reviews    how the new version is tried\n"
        "  ninefold down                       stop it\n"
        "  ninefold --help                     everything else; [bold].venv/bin/ninefold[/bold] where .venv is off",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
