"""The command that repeats published experiments on the simulated lab."""

from __future__ import annotations

import itertools
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labctl.cli import places, show_text
from labctl.cli.on_signals import on_signals
from labctl.cli.run_commands import json_option
from labctl.errors import ConfigError

if TYPE_CHECKING:
    from labctl.reproduce.reproduce import Reproduction
    from labctl.reproduce.rows import Row

ALL = "all"
VERDICTS = ("agrees", "differs", "not run")


@click.command("reproduce")
@click.argument("name")
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Of all randomness; every block has a seed derived from it.")  # fmt: skip
@click.option("--seeds", metavar="N,N,...", help="The same with several seeds, one after the other, and a table of all of them.")  # fmt: skip
@click.option("--quick", "mode", flag_value="quick", default="quick", help="A few thousand rounds: minutes.  [default]")  # fmt: skip
@click.option("--full", "mode", flag_value="full", help="At full length: key distributions of at least as many rounds as were published.")  # fmt: skip
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="Blocks taken at a time; the figures do not depend on it.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where reproductions are kept. Default: reproductions/ here.")  # fmt: skip
@json_option
def reproduce_command(
    name: str, seed: int, seeds: str | None, mode: Any, processes: int, out: Path | None, as_json: bool
) -> None:
    """Repeat a published experiment on the simulated lab, from component values, and compare with the publication.

    NAME is a plan (a TOML file), its name in configs/reproduce/, or "all". What was taken is kept by block: the same
    command goes on where it was ended.

    \b
      labctl reproduce ca40_10km
      labctl reproduce ca40_10km --full --seed 2
      labctl reproduce all --seeds 1,2,3 --json
    """
    from labctl.reproduce.plan import load
    from labctl.reproduce.reproduce import reproduce

    plans = [load(file) for file in plan_files(name)]
    chosen = [seed] if seeds is None else seeds_of(seeds)
    stream = sys.stderr if as_json else sys.stdout
    made: list[Reproduction] = []

    def end(_: int) -> None:
        click.echo("ending; the same command goes on from here", err=True)

    with on_signals(end, signal.SIGTERM, at_once=lambda _: True):
        for plan, number in itertools.product(plans, chosen):
            one = reproduce(
                plan,
                out or Path("reproductions"),
                seed=number,
                mode=mode,
                processes=processes,
                echo=lambda text: click.echo(text, file=stream),
            )
            made.append(one)
            if not as_json:
                paces = "\n".join(pace.text() for pace in one.paces)
                click.echo(f"\n{table(one.rows)}\n\n{paces}\n\n{one.folder / 'report.html'}\n")
    if as_json:
        several = seeds is not None
        show_text.print_json(
            {
                plan.name: [summary(one) for one in made if one.plan is plan]
                if several
                else summary(next(one for one in made if one.plan is plan))
                for plan in plans
            }
        )
    elif len(chosen) > 1:
        for plan in plans:
            click.echo(f"{plan.title}\n{together([one for one in made if one.plan is plan])}\n")


def seeds_of(text: str) -> list[int]:
    """Whole numbers with commas between them; BadParameter otherwise."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list of whole numbers like 1,2,3", param_hint="--seeds"
        ) from None
    if len(set(found)) != len(found):
        raise click.BadParameter(f"{text!r} has a seed twice", param_hint="--seeds")
    return found


def together(made: list[Reproduction]) -> str:
    """The comparisons of several seeds beside each other: each value with its pull, and the rows that agree in each."""
    head = ("quantity", "published", *(f"seed {one.seed}" for one in made))
    cells = [
        (rows[0].label, rows[0].published, *(_with_pull(row) for row in rows))
        for rows in zip(*(one.rows for one in made), strict=True)
    ]
    counts = [
        "/".join(str(sum(row.verdict == verdict for row in one.rows)) for verdict in VERDICTS) for one in made
    ]
    return show_text.table(head, [*cells, (" / ".join(VERDICTS), "", *counts)])


def _with_pull(row: Row) -> str:
    pull = "" if row.pull is None else f" ({row.pull:+.1f})"
    text = f"{row.measured}{pull}"
    return click.style(text, fg="red") if row.verdict == "differs" else text


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
        "pace": [pace.text() for pace in made.paces],
        "folder": str(made.folder),
    }
