"""A pipeline with the training pipeline's parameters and two small steps, for testing what runs pipelines."""

from kfp import dsl


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def first(word: str, code_digest: str) -> str:
    if word == "interrupt":
        raise KeyboardInterrupt
    return word.upper()


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def second(word: str, run_id: str, seed: int) -> str:
    import json
    import os
    import time

    from ninefold.errors import DataError
    from ninefold.settings import settings

    if seed == 13:
        raise DataError("the well is dry.", remedy="Dig deeper.")
    if seed == 60:
        (settings().folder("run") / "step").write_text(str(os.getpid()))
        time.sleep(60)
    folder = settings().folder("reports") / "arrivals" / run_id
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"word": word}))
    return word


@dsl.pipeline(name="tiny")
def tiny(
    use_case: str,
    run_id: str,
    code_digest: str,
    until: str = "",
    max_training_time: float = 1.0,
    max_trials: int = 0,
    windows: dict = {},  # noqa: B006 - KFP reads it as the parameter's default
    seed: int = 0,
) -> None:
    task = first(word=use_case, code_digest=code_digest)
    # As on a cluster; here a step that fails is tried once.
    second(word=task.output, run_id=run_id, seed=seed).set_caching_options(False).set_retry(1, backoff_duration="1s")
