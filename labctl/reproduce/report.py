"""The report of a reproduction: one self-contained HTML file with the comparison, the figures and every component value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from labctl.reproduce.figures import drawn
from labctl.run import folder as folders

if TYPE_CHECKING:
    from labctl.reproduce.reproduce import Reproduction


def write(path: Path, made: Reproduction) -> None:
    """Write the report; the same bytes for the same reproduction."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    lab = folders.provenance(path.parent)["packages"]
    text = environment.get_template("report.html.jinja").render(
        made=made,
        figures=drawn(made),
        inferred=[entry for entry in made.sources if not entry[4].startswith("published")],
        published=[entry for entry in made.sources if entry[4].startswith("published")],
        packages=lab,
    )
    folders.write(path, text.encode())
