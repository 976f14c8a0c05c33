"""Commands that look at a schedule without playing it; no lab has to be up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli import places, show_text
from labctl.cli.run_commands import json_option, set_option
from labctl.errors import StorageError

if TYPE_CHECKING:
    from labctl.config import LabConfig
    from labctl.schedule.items import Schedule

config_option = click.option("--config", metavar="CONFIG", help="Lab file, or its name in configs/. Default: the first there.")  # fmt: skip


def _schedule(sequence: str, pairs: tuple[str, ...], config: str | None) -> tuple[Schedule, LabConfig]:
    from labctl import lab as labs

    loaded, lab = places.load_config(config)
    return labs.schedule(loaded, lab, sequence, places.settings(pairs)), loaded


@click.command("check")
@click.argument("sequence")
@set_option
@config_option
@json_option
def check_command(sequence: str, pairs: tuple[str, ...], config: str | None, as_json: bool) -> None:
    """Check SEQUENCE against the lines of the lab and list every problem with its place; exit code 1 if there is one.

    \b
      labctl check link
      labctl check link --set window=0.5ns --config ca40_10km
    """
    from labctl.schedule.check import check

    schedule, loaded = _schedule(sequence, pairs, config)
    problems = check(schedule, loaded.line)
    if as_json:
        show_text.print_json(problems)
    elif not problems:
        click.echo(f"{schedule.name} can run on {loaded.name}: no problem found")
    for problem in () if as_json else problems:
        click.echo(str(problem))
    if problems:
        click.get_current_context().exit(1)


@click.command("draw")
@click.argument("sequence")
@set_option
@config_option
@click.option("--format", "form", type=click.Choice(["text", "svg", "vcd"]), help="Default: by the suffix of -o, else text.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there instead of printing.")  # fmt: skip
@click.option("--width", type=click.IntRange(min=40), metavar="N", help="Columns of the text drawing. Default: the terminal's.")  # fmt: skip
def draw_command(
    sequence: str,
    pairs: tuple[str, ...],
    config: str | None,
    form: str | None,
    output: Path | None,
    width: int | None,
) -> None:
    """Draw one pass of SEQUENCE: as text, as SVG, or as VCD for a waveform viewer.

    \b
      labctl draw link
      labctl draw link --set alpha=0.1 -o link.svg
      labctl draw link -o link.vcd && gtkwave link.vcd
    """
    import shutil

    from labctl.schedule import draw

    suffix = "" if output is None else output.suffix.lower().lstrip(".")
    kind = form or (suffix if suffix in ("svg", "vcd") else "text")
    schedule, loaded = _schedule(sequence, pairs, config)
    if kind == "svg":
        drawing = draw.svg(schedule, loaded.line)
    elif kind == "vcd":
        drawing = draw.vcd(schedule, loaded.line)
    else:
        drawing = draw.text(schedule, loaded.line, width or shutil.get_terminal_size((110, 24)).columns)
    if output is None:
        click.echo(drawing)
        return
    try:
        output.write_text(drawing)
    except OSError as error:
        raise StorageError(f"{output}: cannot be written ({error.strerror})") from None
    click.echo(str(output))
