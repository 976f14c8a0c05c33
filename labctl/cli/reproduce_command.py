"""The command that repeats published experiments on the simulated lab."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labctl.cli import places, show_text
from labctl.cli.run_commands import json_option
from labctl.errors import ConfigError

if TYPE_CHECKING:
    from labctl.reproduce.reproduce import Reproduction
    from labctl.reproduce.rows import Row

ALL = "all"


@click.command("reproduce")
@click.argument("name")
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Of all randomness; every block has a seed derived from it.")  # fmt: skip
@click.option("--quick", "mode", flag_value="quick", default="quick", help="A few thousand rounds: minutes.  [default]")  # fmt: skip
@click.option("--full", "mode", flag_value="full", help="As many rounds as were published.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="Blocks taken at a time; the figures do not depend on it.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where reproductions are kept. Default: reproductions/ here.")  # fmt: skip
@json_option
def reproduce_command(
    name: str, seed: int, mode: Any, processes: int, out: Path | None, as_json: bool
) -> None:
    """Repeat a published experiment on the simulated lab, from component values, and compare with the publication.

    NAME is a plan (a TOML file), its name in configs/reproduce/, or "all". What was taken is kept by block: the same
    command goes on where it was ended.

    \b
      labctl reproduce ca40_10km
      labctl reproduce ca40_10km --full --seed 2
      labctl reproduce all --json
    """
    from labctl.reproduce.plan import load
    from labctl.reproduce.reproduce import reproduce

    plans = [load(file) for file in plan_files(name)]
    stream = sys.stderr if as_json else sys.stdout
    made: list[Reproduction] = []

    def end(number: int, _: Any) -> None:
        raise KeyboardInterrupt

    with places.on_signals(end, signal.SIGTERM):
        for plan in plans:
            one = reproduce(
                plan,
                out or Path("reproductions"),
                seed=seed,
                mode=mode,
                processes=processes,
                echo=lambda text: click.echo(text, file=stream),
            )
            made.append(one)
            if not as_json:
                click.echo(f"\n{table(one.rows)}\n\n{one.folder / 'report.html'}\n")
    if as_json:
        show_text.print_json({one.plan.name: summary(one) for one in made})


def plan_files(name: str) -> list[Path]:
    """The plan files meant by a name; ConfigError lists what there is."""
    folder = places.lab_folder() / "configs" / "reproduce"
    there = sorted(folder.glob("*.toml"))
    if name == ALL:
        return there
    given = Path(name)
    if given.suffix == ".toml":
        return [given]
    for file in there:
        if file.stem == name:
            return [file]
    raise ConfigError(
        f"no plan {name!r} in {folder}; there are {', '.join(f.stem for f in there) or 'none'}, and all"
    )


def table(rows: list[Row]) -> str:
    """The comparison as text, remarks below."""
    cells = [
        (
            row.label,
            row.measured,
            row.published,
            "" if row.pull is None else f"{row.pull:+.1f}",
            click.style(row.verdict, fg="red" if row.verdict == "differs" else None),
        )
        for row in rows
    ]
    text = show_text.table(("quantity", "measured", "published", "pull / σ", ""), cells, right=(3,))
    remarks = [f"{row.label}: {row.note}" for row in rows if row.note]
    return "\n".join([text, *(["", *remarks] if remarks else [])])


def summary(made: Reproduction) -> dict[str, Any]:
    """A reproduction for ``--json``."""
    import msgspec

    return {
        "seed": made.seed,
        "mode": made.mode,
        "rows": [msgspec.to_builtins(row) for row in made.rows],
        "folder": str(made.folder),
    }
