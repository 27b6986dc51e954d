"""What a run of one step came to: a table, for people, and the same for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ninefold.settings import Settings


def result_path(settings: Settings, use_case: str, run_id: str) -> Path:
    """Where a run's result lies, whatever its pipeline; its report lies beside it.

    Args:
        settings: Name the home.
        use_case: Name of the use case.
        run_id: Names the run.
    """
    return settings.home / "reports" / use_case / run_id / "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run's result.

    Args:
        use_case: Name of the use case.
        title: What the table shows.
        header: Its columns.
        rows: Its rows.
        summary: A sentence.
        report: Where the page lies; filled in when it is kept.
    """

    use_case: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    summary: str
    report: str = ""

    def markdown(self) -> str:
        """The table and the sentence."""
        lines = [f"# {self.title}", "", _line(self.header), _line(["---"] * len(self.header))]
        return "\n".join([*lines, *map(_line, self.rows), "", self.summary, ""])

    def keep(self, settings: Settings, run_id: str) -> None:
        """Keeps it where runs' results lie; without a name there is nobody who would look for it."""
        if not run_id:
            return
        path = result_path(settings, self.use_case, run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        report = path.with_name("report.md")
        report.write_text(self.markdown())
        path.write_text(json.dumps({**asdict(self), "report": str(report)}, indent=1))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
