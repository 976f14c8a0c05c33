"""The report of a run: one self-contained HTML file with its figures, plots and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from labctl.run import columns
from labctl.run import folder as folders
from labctl.run.figures import figures
from labctl.run.journal import JournalContent
from labctl.run.results import Result
from labctl.run.table import Table


def write(
    path: Path,
    about: Mapping[str, Any],
    table: Table,
    content: JournalContent,
    results: Sequence[Result],
) -> None:
    """Write the report. ``about`` is the content of run.json; its "comparison" and "related" entries,
    if any, become the table against published figures and the plots of runs that belong to this one."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    drawn = figures(str(about.get("analysis", "")), table, about.get("arguments", {}))
    for related in about.get("related", []):
        other, _ = columns.read(path.parent.parent / related["folder"] / "journal")
        drawn += [
            (f"Run {related['rid']}: {caption}", svg)
            for caption, svg in figures(related["analysis"], other, related["arguments"])
        ]
    text = environment.get_template("report.html.jinja").render(
        about=about,
        comparison=about.get("comparison", []),
        results=results,
        figures=drawn,
        notes=[_note(note) for note in content.notes],
        devices=_devices(about),
        sources=about.get("components", []),
    )
    folders.write(path, text.encode())


def _note(note: Mapping[str, Any]) -> str:
    if "resumed" in note:
        return f"resumed with record {note['resumed']}"
    return f"paused: {note['paused']}" if note.get("paused") else "went on"


def _devices(about: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    before, after = about.get("devices_before", {}), about.get("devices_after", {})
    return [(name, before.get(name, ""), after.get(name, "")) for name in sorted({*before, *after})]
