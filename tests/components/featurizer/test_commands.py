from __future__ import annotations

from types import ModuleType

import pytest
from typer.testing import CliRunner

from components.featurizer.commands import app
from ninefold.errors import InvalidInput, UsageError
from ninefold.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, of its dependencies.

run = CliRunner().invoke


def test_apply_materialize_and_show(rides: ModuleType) -> None:
    rides.write_history(settings().folder("data") / "rides")
    applied = run(app, ["apply", "rides:USE_CASE", "--length", "recent=3h"], catch_exceptions=False)
    assert "recent_3h: mean, count by zone" in applied.output
    written = run(app, ["materialize", "rides:USE_CASE", "--until", "2013-07-01T23:59:00Z"], catch_exceptions=False)
    assert "known until 2013-07-01T23:59:00Z" in written.output
    shown = run(app, ["show", "rides:USE_CASE", "driver=1", "zone=Z0", "to=Z1"], catch_exceptions=False)
    assert "driver of 1: known at 2013-07-01T" in shown.output
    assert "driver__seats = " in shown.output
    assert "past its time to live; watermark 2013-07-01T23:59:00Z" in shown.output
    assert "recent_1h of Z0: no row; watermark never" in shown.output
    # A view whose key was not given is not asked for.
    assert "route" not in run(app, ["show", "rides:USE_CASE", "driver=1"], catch_exceptions=False).output


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["driver"], UsageError, "has no '='"),
        (["driver=one"], InvalidInput, "driver: 'one' is not a number"),
        (["driver=--5"], InvalidInput, "driver: '--5' is not a number"),
        (["driver=²"], InvalidInput, "driver: '²' is not a number"),
        (["nothing=1"], UsageError, "no field of a request"),
        (["to=Z1"], UsageError, "No view goes by to alone"),
    ],
)
def test_what_cannot_be_shown_is_named(rides: ModuleType, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        run(app, ["show", "rides:USE_CASE", *arguments], catch_exceptions=False)
