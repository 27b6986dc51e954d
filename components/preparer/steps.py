"""The preparer's work from files to files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from components.collector.extract import read_examples
from components.preparer.prepare import prepare
from components.preparer.split import Parts, split
from ninefold.clock import parse_instant
from ninefold.dataset import PARTS, read_dataset, write_dataset
from ninefold.loading import load_use_case


def split_snapshot(use_case: str, until: str, snapshot: str, outputs: Mapping[str, str]) -> None:
    """Divides a snapshot's requests, with the truths known by ``until``.

    Args:
        use_case: Name or import path.
        until: Instant; empty for everything known.
        snapshot: Folder of the snapshot.
        outputs: ``training``, ``validation``, ``test`` and ``notes`` → file.
    """
    declared = load_use_case(use_case)
    end = parse_instant(until, field="until") if until else None
    parts = split(read_examples(declared, Path(snapshot), end), declared, end)
    for name in PARTS:
        frame: pl.DataFrame = getattr(parts, name)
        frame.write_parquet(outputs[name])
    Path(outputs["notes"]).write_text(json.dumps(dict(parts.notes), indent=1))


def prepare_parts(use_case: str, parts: Mapping[str, str], notes: str, outputs: Mapping[str, str]) -> None:
    """Prepares featurized parts.

    Args:
        use_case: Name or import path.
        parts: ``training``, ``validation`` and ``test`` → data set.
        notes: File with the split's notes.
        outputs: The same names → data set, and ``report`` → Markdown.
    """
    read = {name: read_dataset(parts[name]) for name in PARTS}
    frames = {name: frame for name, (frame, _) in read.items()}
    prepared = prepare(Parts(**frames, notes=json.loads(Path(notes).read_text())), load_use_case(use_case))
    for name, (_, card) in read.items():
        noted = replace(card.with_notes(**prepared.notes), part=name)
        write_dataset(outputs[name], getattr(prepared, name), noted)
    Path(outputs["report"]).write_text(_report(prepared.notes))


def _report(notes: Mapping[str, Any]) -> str:
    lines = [f"# Data, split by {notes['split']['by']}", "", "| part | rows | |", "|---|---:|---|"]
    for name in PARTS:
        part = notes[name]
        why = [f"{count:,} dropped: {reason}" for reason, count in part["dropped"].items()]
        why += [f"{count:,} values nulled: {column}" for column, count in part["nulled"].items()]
        why += [f"{part[kind]:,} rows {kind}" for kind in ("augmented", "oversampled") if part.get(kind)]
        lines.append(f"| {name} | {part['rows']:,} | {'; '.join(why)} |")
    told = notes["one input alone"]
    if "value" in told:
        found = f"{told['most_telling']}, {told['measure']} {told['value']:.4f}"
        lines += ["", f"The most telling input alone: {found} on held-out rows; {told['limit']:g} would be a leak."]
    if told["not_checked"]:
        lines += ["", f"Too few rows to say whether an input leaks the target: {told['not_checked']} inputs."]
    if "allowed" in told:
        lines += ["", f"Allowed to tell the target alone: {told['allowed']}."]
    lines += ["", "Left out by the split:", ""]
    lines += [f"- {count:,}: {reason}" for reason, count in notes["split"]["dropped"].items()] or ["- nothing"]
    return "\n".join(lines) + "\n"
