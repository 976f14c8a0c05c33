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

config_option = click.option("--config", metavar="CONFIG", help="Lab file, or its name in configs/. Default: the one configs/default names.")  # fmt: skip


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


@click.command("compile")
@click.argument("sequence")
@set_option
@config_option
@click.option("--core", "core", type=click.Choice(["artiq"]), required=True, help="Which real-time core to compile for.")  # fmt: skip
@click.option("--device-db", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="device_db.py of the ARTIQ system. Default: the lab file's.")  # fmt: skip
@click.option("--how", "ways", multiple=True, metavar="BLOCK=HOW", help="Emit BLOCK as source, table or dma, whatever would be chosen.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER", help="Folder for the experiment and what belongs to it.")  # fmt: skip
def compile_command(
    sequence: str,
    pairs: tuple[str, ...],
    config: str | None,
    core: str,
    device_db: Path | None,
    ways: tuple[str, ...],
    output: Path,
) -> None:
    """Compile SEQUENCE for a real-time core that runs without labctl; list every problem, exit code 1 if there is one.

    For ARTIQ: an experiment file, its expected timeline as JSON, and a report with the slack of each block.

    \b
      labctl compile link --core artiq --device-db device_db.py -o out/
      artiq_run --device-db device_db.py out/link.py rounds=100
    """
    from labctl.core.artiq.compile import compile_schedule
    from labctl.core.artiq.device_db import read

    schedule, loaded = _schedule(sequence, pairs, config)
    table = loaded.core.artiq
    if device_db is None:
        if not table.device_db:
            raise click.UsageError("give --device-db FILE, or device_db in [core.artiq] of the lab file")
        device_db = loaded.path.parent / table.device_db
    made = compile_schedule(schedule, loaded.line, table, read(device_db), how=places.settings(ways))
    for path in made.write(output):
        click.echo(str(path))
