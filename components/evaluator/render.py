"""Sections of a report as Markdown, and as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass

from components.evaluator.gate import GateDecision

_MARKS = {"passed": "✓", "failed": "✗", "unknown": "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts; the first column names the row, a cell that begins with ``*`` is the best of its row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report.

    Args:
        title: Its heading.
        words: Paragraph above the rest.
        checks: Reasons of a decision: (outcome, words).
        table: A table.
        picture: Name and SVG of a picture.
        caption: What the picture shows.
    """

    title: str
    words: str = ""
    checks: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    picture: tuple[str, str] | None = None
    caption: str = ""


def render_markdown(title: str, decision: GateDecision | None, sections: list[Section]) -> str:
    """The report as Markdown; pictures are links to ``<name>.svg`` beside it.

    Args:
        title: Its first heading.
        decision: The gate's; None where nothing was to be decided.
        sections: What it says.
    """
    lines = [f"# {_plain(title)}", ""]
    if decision is not None:
        lines += [f"**{_plain(decision.summary)}**", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.words:
            lines += [_plain(section.words), ""]
        if section.checks:
            lines += [*(f"- {_MARKS[outcome]} {_plain(words)}" for outcome, words in section.checks), ""]
        if section.picture:
            lines += [
                f"![{section.title}]({section.picture[0]}.svg)",
                "",
                f"*{_plain(section.caption)}*",
                "",
            ]
        if section.table:
            lines += [_markdown_row(section.table.header), "|" + "---|" * len(section.table.header)]
            lines += [_markdown_row(row) for row in section.table.rows] + [""]
    return "\n".join(lines)


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(f"**{_plain(c[1:])}**" if c.startswith("*") else _plain(c) for c in cells) + " |"


def _plain(text: str) -> str:
    for character in "\\|*_`<[":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")


def render_html(title: str, decision: GateDecision | None, sections: list[Section]) -> str:
    """The report as one HTML page, pictures embedded, nothing loaded from elsewhere."""
    body = [f"<header><h1>{html.escape(title)}</h1>"]
    if decision is not None:
        words = html.escape(decision.summary.partition(": ")[2])
        body.append(f'<p class="decision {decision.action}"><b>{decision.action.upper()}</b> <span>{words}</span></p>')
    body.append("</header>")
    for section in sections:
        body.append(f"<section><h2>{html.escape(section.title)}</h2>")
        if section.words:
            body.append(f"<p>{html.escape(section.words)}</p>")
        if section.checks:
            items = "".join(
                f'<li class="{outcome}"><i>{_MARKS[outcome]}</i><span>{html.escape(words)}</span></li>'
                for outcome, words in section.checks
            )
            body.append(f"<ul>{items}</ul>")
        if section.picture:
            data = base64.b64encode(section.picture[1].encode()).decode()
            body.append(
                f'<figure><img alt="{html.escape(section.title)}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{html.escape(section.caption)}</figcaption></figure>"
            )
        if section.table:
            body.append(_html_table(section.table))
        body.append("</section>")
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = []
    for row in table.rows:
        cells = []
        for cell in row:
            best, text = cell.startswith("*"), html.escape(cell.removeprefix("*"))
            value, bracket, interval = text.partition(" [")
            shown = f"<b>{value}</b>" if best else value
            small = f"<small>{interval.removesuffix(']')}</small>" if bracket else ""
            cells.append(f"<td>{shown}{small}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ --ink: #22262b; --soft: #5c646e; --line: #dfe3e8; --good: #1a7f4b; --bad: #b3261e; --open: #9a6700; }}
body {{ font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: #f5f6f8; margin: 0; }}
header, section {{ max-width: 900px; margin: 0 auto 16px; padding: 20px 28px; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; box-sizing: border-box; }}
header {{ margin-top: 24px; }}
h1 {{ font-size: 24px; margin: 0 0 12px; }} h2 {{ font-size: 17px; margin: 0 0 10px; }} p {{ margin: 0 0 12px; }}
.decision {{ display: flex; gap: 14px; margin: 0; padding: 12px 16px; border-radius: 6px; border-left: 5px solid; }}
.release {{ color: var(--good); background: #e9f6ef; }} .reject {{ color: var(--bad); background: #fdeceb; }}
.hold {{ color: var(--open); background: #fdf5e3; }} .decision span {{ color: var(--ink); }}
ul {{ list-style: none; margin: 0 0 4px; padding: 0; }} li {{ display: flex; gap: 10px; padding: 4px 0; }}
li i {{ flex: 0 0 22px; height: 22px; border-radius: 11px; text-align: center; font: bold 13px/22px sans-serif;
  color: #fff; }}
.passed i {{ background: var(--good); }} .failed i {{ background: var(--bad); }}
.unknown i {{ background: var(--open); }}
.table {{ overflow-x: auto; }} table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 6px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }}
th {{ color: var(--soft); font-weight: 600; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
td small {{ display: block; color: var(--soft); white-space: nowrap; }}
figure {{ margin: 4px 0 16px; }} img {{ width: 100%; height: auto; }}
figcaption {{ color: var(--soft); font-size: 13px; }}
</style></head><body>
{body}
</body></html>
"""
