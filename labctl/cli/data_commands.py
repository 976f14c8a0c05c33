"""Commands for data that labctl did not take itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli import show_text
from labctl.cli.run_commands import json_option

if TYPE_CHECKING:
    from labctl.analysis.delft2015 import Delft2015Result


@click.group("analyze")
def analyze_command() -> None:
    """Analyse published data of other experiments with labctl's own analysis."""


@analyze_command.command("bell")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["delft2015"]), required=True, help="Whose data it is: delft2015 is bell_open_data.txt of the event-ready Bell test, doi:10.1038/nature15759.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Where the plot goes, .png or .svg. Default: bell_delft2015.png here.")  # fmt: skip
@json_option
def bell_command(file: Path, form: str, plot: Path | None, as_json: bool) -> None:
    """Event-ready Bell test in FILE: trials n, wins k, CHSH S, the p-value of all local models, and the correlators.

    \b
      labctl analyze bell --format delft2015 bell_open_data.txt
    """
    from labctl.analysis import delft2015

    result = delft2015.analyse(delft2015.read(file))
    drawn = delft2015.plot(result, plot or Path(f"bell_{form}.png"))
    if not as_json:
        _print_bell(result, drawn)
        return
    correlators = [
        {"a": a, "b": b, "trials": int(result.chsh.trials[a][b]), "value": e.value, "standard_error": e.standard_error}
        for a in (0, 1)
        for b in (0, 1)
        for e in [result.chsh.correlators[a][b]]
    ]  # fmt: skip
    show_text.print_json(
        {
            "records": result.records,
            "n": result.trials,
            "k": result.wins,
            "S": result.chsh.s.value,
            "S_standard_error": result.chsh.s.standard_error,
            "p": result.p_value,
            "correlators": correlators,
            "plot": str(drawn),
        }
    )


def _print_bell(result: Delft2015Result, drawn: Path) -> None:
    chsh = result.chsh
    click.echo(f"n = {result.trials} valid trials of {result.records} records, k = {result.wins} wins")
    click.echo(f"S = {chsh.s}")
    click.echo(f"p = {result.p_value:.3g} for all local models, with memory")
    for a in (0, 1):
        for b in (0, 1):
            click.echo(f"E({a},{b}) = {chsh.correlators[a][b]}  ({chsh.trials[a][b]} trials)")
    click.echo(str(drawn))


@click.group("tags")
def tags_command() -> None:
    """Look into files of time tags: PicoQuant PTU (T2) and ID Quantique ID900 .bin."""


@tags_command.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--reference-index", is_flag=True, help="An ID900 file that was recorded with --with-ref-index."
)
@json_option
def info_command(file: Path, reference_index: bool, as_json: bool) -> None:
    """What FILE holds: photons by channel, rate, duration, resolution.

    \b
      labctl tags info recording.ptu
    """
    from labctl.tags import files

    info = files.info(file, with_ref_index=reference_index)
    if as_json:
        show_text.print_json(
            {
                "file": str(info.path),
                "format": info.format,
                "records": info.records,
                "photons": info.photon_count,
                "photons_by_channel": {str(channel): count for channel, count in info.photons.items()},
                "mean_rate_hz": info.mean_rate_hz,
                "resolution_ps": info.resolution_ps,
                "duration_s": info.duration_s,
                "first_ps": info.first_ps,
            }
        )
        return
    rows = [
        ("file", str(info.path)),
        ("format", info.format),
        ("records", f"{info.records:,}".replace(",", " ")),
        ("photons", f"{info.photon_count:,}".replace(",", " ")),
        *(
            (f"  channel {channel}", f"{count:,}".replace(",", " "))
            for channel, count in info.photons.items()
        ),
        ("duration", f"{info.duration_s:.6g} s" if info.duration_s else "unknown"),
        ("mean rate", f"{info.mean_rate_hz:.6g} /s" if info.duration_s else "unknown"),
        ("resolution", f"{info.resolution_ps} ps"),
        ("first photons", ", ".join(f"{time} ps" for time in info.first_ps)),
    ]
    for name, text in rows:
        click.echo(f"{name:<14} {text}")
