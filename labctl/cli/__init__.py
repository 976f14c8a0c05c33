"""The command line: ``labctl COMMAND``. A command's code is imported when it is used, so that help is there at once."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from labctl.errors import LabError, ScheduleError

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""Read by numpy and scipy when they are imported. Their threads, waiting in a loop for the small matrices of a fit, take
the processors from the hosts of the lab: nine times the time of a fringe fit on two busy cores."""

FAMILIES: dict[str, tuple[str, dict[str, str]]] = {
    "The lab": (
        "lab_commands",
        {
            "up": "Bring a lab up: hub, hosts and, for a simulated lab, its world.",
            "down": "Make every device safe and end the lab that is up.",
            "ls": "List the devices of the lab, or the signals of one device.",
            "get": "Ask instruments for signals.",
            "set": "Set a signal, within its limits.",
            "call": "Run an action of a device.",
            "watch": "Print signals and device states as they change.",
            "safe": "The big button: make devices safe now.",
            "restore": "End safe: set the state the lab file declares again.",
        },
    ),
    "Runs": (
        "run_commands",
        {
            "run": "Take data: check a sequence, play it, publish the run.",
            "runs": "List the runs taken so far.",
            "show": "Show one run: figures, files, provenance.",
        },
    ),
    "Schedules": (
        "schedule_commands",
        {
            "check": "Check a sequence against the lab's lines; list every problem.",
            "draw": "Draw the schedule of a sequence: text, SVG or VCD.",
            "compile": "Compile a sequence for ARTIQ: experiment file, expected timeline, slack.",
        },
    ),
    "Beside ARTIQ": (
        "artiq_commands",
        {
            "serve": "Serve devices as ARTIQ controllers, runs and signals as datasets.",
            "artiq": "Print device_db.py entries of the lab.",
        },
    ),
    "Data": (
        "data_commands",
        {
            "analyze": "Analyse published data of other experiments.",
            "tags": "Look into files of time tags.",
        },
    ),
    "Simulation": (
        "sim_commands",
        {
            "demo": "Bring a simulated lab up, take its data, compare with the publication.",
            "sim": "Serve only the simulated instruments, for other programs.",
            "fault": "Make a simulated instrument misbehave.",
        },
    ),
    "Published experiments": (
        "reproduce_command",
        {"reproduce": "Repeat a published experiment on the simulated lab and compare."},
    ),
    "A lab of one's own": (
        "driver_commands",
        {
            "drivers": "List every driver there is: addresses, manual, simulator.",
            "new": "Begin a lab folder or a driver of one's own.",
        },
    ),
    "Trouble": (
        "doctor_command",
        {"doctor": "Check installation, lab files and the lab that is up."},
    ),
}
"""Title -> (module, command -> its help in one line)."""


class LazyGroup(click.Group):
    """Knows the commands by name and imports one when it is asked for; turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the help."""
        return [name for _, commands in FAMILIES.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of that name."""
        for module, commands in FAMILIES.values():
            if cmd_name in commands:
                return getattr(importlib.import_module(f"labctl.cli.{module}"), f"{cmd_name}_command")
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a hint at a near name."""
        if args and self.get_command(ctx, args[0]) is None:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"did you mean {near[0]!r}?" if near else "see `labctl --help`"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by family, without importing any."""
        for title, (_, commands) in FAMILIES.items():
            with formatter.section(title):
                formatter.write_dl([*commands.items()], col_max=10)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; LabError is one line and exit code 1, Ctrl-C is 130, a mistake of labctl goes into a file."""
        os.environ.setdefault(BLAS_THREADS, "1")
        try:
            return super().invoke(ctx)
        except LabError as error:
            click.echo(f"labctl: {error}", err=True)
            for problem in error.problems if isinstance(error, ScheduleError) else ():
                if problem not in str(error):
                    click.echo(f"  {problem}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("labctl: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  (the last one to see it)
            click.echo(f"labctl: {_unexpected(error)}", err=True)
            ctx.exit(1)


def _unexpected(error: Exception) -> str:
    """One line for a mistake in labctl or in the lab folder's code; the traceback goes into a file."""
    import traceback

    from labctl.cli.places import state_folder
    from labctl.clock import utc_now

    text = "".join(traceback.format_exception(error))
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
    try:
        file = state_folder() / f"error-{utc_now().replace(':', '')}.txt"
        file.write_text(f"{' '.join(sys.argv)}\n\n{text}")
    except OSError as failure:
        return f"{what}; the traceback cannot be written ({failure})\n{text}"
    return f"{what}; the traceback is in {file}, please report it"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="First steps: `labctl demo`, or `labctl up` in one terminal and `labctl ls`, `labctl run link` in another.",
)
@click.option("--lab", type=click.Path(file_okay=False, path_type=Path), envvar="LABCTL_LAB", metavar="FOLDER",
              help="Lab folder (drivers, sequences, configs). Default: around the working directory, else the shipped one.")  # fmt: skip
@click.option("--lab-name", default="", envvar="LABCTL_NAME", metavar="NAME", help="Which lab, when several are up on this machine.")  # fmt: skip
@click.option("--hub", default="", envvar="LABCTL_HUB", metavar="tcp://HOST:PORT", help="Hub of a lab that is up on this machine; labs on other machines cannot be reached yet.")  # fmt: skip
@click.version_option(package_name="labctl", prog_name="labctl")
def main(lab: Path | None, lab_name: str, hub: str) -> None:
    """Run laboratories of remote atomic nodes: devices, sequences, runs."""
