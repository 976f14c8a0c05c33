"""Commands that look at a schedule without playing it; no lab has to be up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli import places, show_text
from labctl.cli.run_commands import json_option, set_option
from labctl.errors import LimitError, StorageError

if TYPE_CHECKING:
    from labctl.config import LabConfig
    from labctl.core.artiq.device_db import DeviceDb
    from labctl.schedule.items import Schedule
    from labctl.schedule.problem import Problem

config_option = click.option("--config", metavar="CONFIG", help="Lab file, or its name in configs/. Default: the one configs/default names.")  # fmt: skip


core_option = click.option("--core", type=click.Choice(["sim", "artiq", "nidaq"]), default="sim", show_default=True, help="Also check what this core can play.")  # fmt: skip
device_db_option = click.option("--device-db", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="device_db.py of the ARTIQ system. Default: the lab file's.")  # fmt: skip


def _schedule(sequence: str, pairs: tuple[str, ...], config: str | None) -> tuple[Schedule, LabConfig]:
    """The schedule of a sequence, or of a JSON file, and the lab it is for."""
    from labctl import lab as labs
    from labctl.schedule.items import from_json

    loaded, lab = places.load_config(config)
    if sequence.endswith(".json"):
        if pairs:
            raise click.UsageError("--set is for sequences; a schedule in a JSON file has no arguments left")
        try:
            return from_json(Path(sequence).read_bytes()), loaded
        except OSError as error:
            raise StorageError(f"{sequence}: cannot be read ({error.strerror})") from None
    return labs.schedule(loaded, lab, sequence, places.settings(pairs)), loaded


def _device_db(given: Path | None, config: LabConfig) -> DeviceDb:
    from labctl.core.artiq.device_db import read

    table = config.core.artiq
    if given is None and not table.device_db:
        raise click.UsageError("give --device-db FILE, or device_db in [core.artiq] of the lab file")
    return read(given or config.path.parent / table.device_db)


def _problems(schedule: Schedule, config: LabConfig, core: str, device_db: Path | None) -> list[Problem]:
    """What is wrong with a schedule on the lab's lines, and on a core."""
    from labctl.schedule.check import check

    found = check(schedule, config.line, links=config.links)
    if found or core == "sim":
        return found
    if core == "nidaq":
        from labctl.core.nidaq.rules import check as check_for_card

        return check_for_card(schedule, config.line, config.core.nidaq)
    from labctl.core.artiq.compile import problems

    return problems(schedule, config.line, config.core.artiq, _device_db(device_db, config))


def _schema(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from labctl.schedule.items import schema_text

        click.echo(schema_text(), nl=False)
        context.exit()


@click.command("check")
@click.argument("sequence", metavar="SEQUENCE|FILE.json")
@set_option
@config_option
@core_option
@device_db_option
@click.option("--schema", is_flag=True, is_eager=True, expose_value=False, callback=_schema, help="Print the JSON Schema of schedules and do nothing else.")  # fmt: skip
@json_option
def check_command(
    sequence: str,
    pairs: tuple[str, ...],
    config: str | None,
    core: str,
    device_db: Path | None,
    as_json: bool,
) -> None:
    """Check SEQUENCE, or a schedule in a JSON file, against the lines of the lab: every problem with its block and its
    time in it; exit code 1 if there is one.

    \b
      labctl check link
      labctl check link --set window=0.5ns --config ca40_10km
      labctl check link --core artiq --device-db device_db.py
      labctl check mine.json
      labctl check --schema > schedule.schema.json
    """
    from labctl.errors import ScheduleError
    from labctl.schedule.problem import Problem

    name = Path(sequence).stem
    try:
        schedule, loaded = _schedule(sequence, pairs, config)
        name = schedule.name
        problems = _problems(schedule, loaded, core, device_db)
        on = f"{loaded.name}{'' if core == 'sim' else f' with core {core}'}"
    except ScheduleError as error:
        problems, on = [Problem(name, 0, "", str(error))], ""
    if as_json:
        show_text.print_json(problems)
    elif not problems:
        click.echo(f"{name} can run on {on}: no problem found")
    for problem in () if as_json else problems:
        click.echo(str(problem))
    if problems:
        click.get_current_context().exit(1)


LATEST_PS = 2**62


def _time(text: str | None, default: int) -> int:
    """A time such as 4.2ms in ps."""
    from labctl.units import parse_quantity, s

    if text is None:
        return default
    try:
        return round(parse_quantity(text, "s") * s)
    except LimitError as error:
        raise click.UsageError(str(error)) from None


@click.command("draw")
@click.argument("sequence")
@set_option
@config_option
@click.option("--format", "form", type=click.Choice(["text", "svg", "vcd"]), help="Default: by the suffix of -o, else text.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there instead of printing.")  # fmt: skip
@click.option("--block", default="", metavar="NAME", help="Zoom: only this block (text and SVG).")
@click.option("--from", "begin", metavar="TIME", help="Zoom: from this time of each piece on, e.g. 4.2ms; loops are unrolled there (text and SVG).")  # fmt: skip
@click.option("--to", "end", metavar="TIME", help="Zoom: up to this time.")
@click.option("--width", type=click.IntRange(min=40), metavar="N", help="Columns of the text drawing. Default: the terminal's.")  # fmt: skip
def draw_command(
    sequence: str,
    pairs: tuple[str, ...],
    config: str | None,
    form: str | None,
    output: Path | None,
    block: str,
    begin: str | None,
    end: str | None,
    width: int | None,
) -> None:
    """Draw one pass of SEQUENCE: as text, as SVG, or as VCD for a waveform viewer.

    \b
      labctl draw link
      labctl draw link --set alpha=0.1 -o link.svg
      labctl draw link -o link.vcd && gtkwave link.vcd
      labctl draw link --block attempt
      labctl draw decoupling --set sequence=kdd --block kdd --from 4ms --to 6ms
    """
    import shutil

    from labctl.schedule import draw

    suffix = "" if output is None else output.suffix.lower().lstrip(".")
    kind = form or (suffix if suffix in ("svg", "vcd") else "text")
    schedule, loaded = _schedule(sequence, pairs, config)
    window = None if begin is None and end is None else (_time(begin, 0), _time(end, LATEST_PS))
    if window is not None and not 0 <= window[0] < window[1]:
        raise click.UsageError("--from must come before --to")
    zoom = draw.Zoom(block, window)
    if kind == "svg":
        drawing = draw.svg(schedule, loaded.line, zoom)
    elif kind == "vcd":
        drawing = draw.vcd(schedule, loaded.line)
    else:
        drawing = draw.text(schedule, loaded.line, width or shutil.get_terminal_size((110, 24)).columns, zoom)
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
@device_db_option
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

    schedule, loaded = _schedule(sequence, pairs, config)
    table, db = loaded.core.artiq, _device_db(device_db, loaded)
    made = compile_schedule(schedule, loaded.line, table, db, how=places.settings(ways), links=loaded.links)
    for path in made.write(output):
        click.echo(str(path))
