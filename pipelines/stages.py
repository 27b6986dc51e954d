"""The stages that pipelines share: from production to prepared sets, and from a candidate's package to its release."""

from __future__ import annotations

from dataclasses import dataclass

from kfp import dsl

from components.collector.component import extract, look_up
from components.evaluator.component import decide, evaluate, evaluate_baseline, predict
from components.featurizer.component import featurize
from components.preparer.component import prepare, split
from components.releaser.component import release
from ninefold.dataset import PARTS
from pipelines.platform import LIGHT, Place, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Sets at one choice of window lengths.

    Args:
        featurized: Task that joined the features.
        prepared: Task that prepared the sets.
    """

    featurized: dsl.PipelineTask
    prepared: dsl.PipelineTask

    def __getitem__(self, part: str) -> Value:
        """The prepared set of a part."""
        return self.prepared.outputs[f"prepared_{part}"]

    def parts(self, *names: str) -> dict[str, Value]:
        """Part → its prepared set."""
        return {name: self[name] for name in names}


class Stages:
    """The stages of one run that trains; history is read and split when this is made.

    Args:
        use_case: Name or import path.
        until: Only what was known before this instant is used; empty for everything known.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the steps run.
        place: Where the steps run.
    """

    def __init__(self, *, use_case: Value, until: Value, run_id: Value, code_digest: Value, place: Place) -> None:
        self._use_case, self._code, self._place = use_case, code_digest, place
        # What production holds changes without any argument changing: this step is never cached.
        self._live = place.run(look_up(use_case=use_case, until=until, run_id=run_id), LIGHT, caching=False).outputs
        self.run_id = self._live["run_id"]
        history = place.run(extract(use_case=use_case, production=self._live["production"], code_digest=code_digest))
        self.snapshot = history.outputs["snapshot"]
        parts = place.run(
            split(use_case=use_case, until=self._live["until"], code_digest=code_digest, snapshot=self.snapshot)
        )
        self.examples = {name: parts.outputs[name] for name in PARTS}
        self.notes = parts.outputs["notes"]

    def sets(self, windows: Value) -> Sets:
        """Joins features and prepares the sets.

        Args:
            windows: Window name → length, where another than the declared one is wanted.
        """
        featurized = self._place.run(
            featurize(
                use_case=self._use_case,
                windows=windows,
                live_lengths=self._live["lengths"],
                code_digest=self._code,
                snapshot=self.snapshot,
                **self.examples,
            )
        )
        made = {name: featurized.outputs[f"featurized_{name}"] for name in PARTS}
        prepared = prepare(use_case=self._use_case, code_digest=self._code, notes=self.notes, **made)
        return Sets(featurized=featurized, prepared=self._place.run(prepared))

    def baseline(self, sets: Sets) -> dsl.PipelineTask:
        """Evaluates and packages the baseline."""
        return self._place.run(evaluate_baseline(code_digest=self._code, **sets.parts(*PARTS)))

    def release(self, sets: Sets, *, baseline: dsl.PipelineTask, built: dsl.PipelineTask) -> dsl.PipelineTask:
        """Judges a candidate on the test set, decides, and releases it when it passed.

        Args:
            sets: What it was built on.
            baseline: Task that evaluated the baseline.
            built: Task that built the candidate: its ``Output`` is the digest of its ``package``.
        """
        digest, package, test = built.outputs["Output"], built.outputs["package"], sets["test"]
        predicted = self._place.run(
            predict(
                digest=digest,
                live_version=self._live["version"],
                live_digest=self._live["digest"],
                live_uri=self._live["uri"],
                code_digest=self._code,
                package=package,
                test=test,
                live_test=sets.featurized.outputs["live_test"],
            )
        )
        evaluated = self._place.run(
            evaluate(
                use_case=self._use_case,
                digest=digest,
                live_version=self._live["version"],
                code_digest=self._code,
                package=package,
                test=test,
                predictions=predicted.outputs["predictions"],
            ).after(baseline)
        )
        evidence = evaluated.outputs["evidence"]
        decided = self._place.run(decide(use_case=self._use_case, code_digest=self._code, evidence=evidence), LIGHT)
        return self._place.run(
            release(
                use_case=self._use_case,
                run_id=self.run_id,
                until=self._live["until"],
                action=decided.outputs["Output"],
                baseline_digest=baseline.outputs["Output"],
                digest=digest,
                baseline=baseline.outputs["package"],
                package=package,
                snapshot=self.snapshot,
                test=test,
                evidence=evidence,
                decision=decided.outputs["decision"],
                report=decided.outputs["report"],
                summary=decided.outputs["summary"],
            ),
            caching=False,
        )
