"""Commands for simulated labs: the demo, the instruments alone, faults."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import click

from labctl.cli import places, show_text
from labctl.cli.on_signals import on_signals
from labctl.cli.run_commands import comparison_table, json_option
from labctl.errors import LabError


@click.command("demo")
@click.argument("config", required=False)
@click.option("--seed", type=int, metavar="N", help="Seed of the simulated world. Default: the lab file's.")
@click.option("--virtual", is_flag=True, help="In virtual time, in this process: no sockets, as fast as it can be computed.")  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", envvar="LABCTL_RUNS", help="Folder of run folders. Default: runs/ here.")  # fmt: skip
@json_option
def demo_command(
    config: str | None, seed: int | None, virtual: bool, runs: Path | None, as_json: bool
) -> None:
    """Bring a simulated lab up on free ports, take the data of its procedure, and compare with the publication.

    CONFIG is a lab file, or its name in configs/ (default: see configs/default). The instruments speak their own
    protocols over sockets (in-process with --virtual). Ctrl-C ends it in good order; what was taken is on disk.

    \b
      labctl demo
      labctl demo ca40_10km --seed 7 --virtual
    """
    from labctl.cli.progress import Progress
    from labctl.up.demo import demo

    file = places.config_file(config)
    folder = runs or places.default_runs(places.lab_folder(file))
    stop = threading.Event()
    out = sys.stderr if as_json else sys.stdout

    def echo(text: str) -> None:
        click.echo(text, file=out)

    with Progress(out) as progress:

        def end(_: int) -> None:
            if not stop.is_set():
                stop.set()
                progress.ending()

        with on_signals(end, signal.SIGINT, signal.SIGTERM, at_once=bool):
            try:
                result = demo(
                    file,
                    seed=seed,
                    virtual=virtual,
                    runs=folder,
                    echo=echo,
                    observer=progress,
                    on_devices=show_text.StateLines(echo),
                    stop=stop,
                )
            except LabError as error:
                if not stop.is_set():
                    raise
                click.echo(f"labctl: {error}", err=True)
                click.get_current_context().exit(130)
    comparison = [asdict(row) for row in result.comparison]
    if as_json:
        show_text.print_json({"comparison": comparison, "folder": str(result.folder)})
    else:
        if comparison:
            click.echo("\n" + comparison_table(comparison))
        click.echo(f"\n{result.folder}\n  report.html has the plots, data.nc the records")


@click.command("sim")
@click.argument("config", required=False)
@click.option("--free-ports", is_flag=True, help="Use free ports instead of those of the lab file.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), metavar="X", help="Laboratory seconds per real second.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Seed of the world.")
@json_option
def sim_command(
    config: str | None, free_ports: bool, speed: float | None, seed: int | None, as_json: bool
) -> None:
    """Serve only the simulated instruments of a lab on their ports, over one world, until Ctrl-C.

    Any client that speaks an instrument's protocol can be pointed at them. Prints device and address.

    \b
      labctl sim
      labctl sim ca40_10km --free-ports --json
    """
    from labctl.clock import ScaledClock
    from labctl.up.config_ports import with_free_ports
    from labctl.up.world import Instruments, make_world, world_table

    loaded, lab = places.load_config(config, seed=seed, speed=speed, simulate=("all",))
    if free_ports:
        loaded = with_free_ports(loaded)
    clock = ScaledClock(world_table(loaded).speed)
    world, simulated = make_world(loaded, lab, clock)
    stop = threading.Event()
    interrupted: list[int] = []

    def end(number: int) -> None:
        interrupted.append(number)
        stop.set()

    with on_signals(end, signal.SIGINT, signal.SIGTERM):
        served = Instruments(loaded, world, simulated, clock).start()
        try:
            if as_json:
                show_text.print_json(served.listening)
            else:
                rows = [
                    (name, address, type(simulated[name]).__name__)
                    for name, address in served.listening.items()
                ]
                click.echo(show_text.table(("device", "address", "instrument"), rows))
                click.echo("Ctrl-C ends them")
            sys.stdout.flush()
            stop.wait()
        finally:
            served.close()
    if signal.SIGINT in interrupted:
        click.get_current_context().exit(130)


@click.command("fault")
@click.argument("device", required=False)
@click.argument("kind", required=False)
@click.argument("amount", type=float, default=1.0)
@click.option("--clear", is_flag=True, help="Switch the wire faults of the device off.")
@click.option(
    "--at",
    "at_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="S",
    help="Begin after so many seconds.",
)
@click.option("--for", "for_s", type=click.FloatRange(min=0), default=0.0, metavar="S", help="End after so many seconds (faults of the wire).")  # fmt: skip
@click.option("--scenario", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Play the faults of a TOML file.")  # fmt: skip
@json_option
def fault_command(
    device: str | None,
    kind: str | None,
    amount: float,
    clear: bool,
    at_s: float,
    for_s: float,
    scenario: Path | None,
    as_json: bool,
) -> None:
    """Make the simulated instrument of DEVICE misbehave: on the wire, or with a fault of its own such as unlock.

    Without DEVICE: the faults that are on, and the kinds there are.

    \b
      labctl fault
      labctl fault alice.laser_397 unlock
      labctl fault bob.oven late 0.5
      labctl fault bob.oven --clear
      labctl fault alice.laser_397 unlock --at 60
      labctl fault bob.oven silent --for 20
      labctl fault --scenario night.toml

    A scenario has one [[fault]] table each: at_s, device, kind, amount, for_s.
    """
    if scenario is not None or at_s or for_s:
        _play_scenario(scenario, device, kind, amount, at_s, for_s)
        return
    if device is not None and (kind is None) != clear:
        raise click.UsageError("give a KIND of fault, or --clear")
    from labctl.sim.faults import KINDS

    with places.connect(5.0) as client:
        if device is None:
            active: dict[str, dict[str, float]] = client.call("world.faults")
            if as_json:
                show_text.print_json(active)
                return
            rows = [
                (name, fault, f"{size:g}")
                for name, faults in active.items()
                for fault, size in faults.items()
            ]
            click.echo(show_text.table(("device", "fault", "amount"), rows) if rows else "no fault is on")
            click.echo("\n" + show_text.table(("kind", ""), [*KINDS.items()]))
            click.echo("and the instrument's own, such as unlock; AMOUNT is seconds or a count, default 1")
        elif clear:
            client.call("world.clear", device)
            click.echo(f"{device}: faults cleared")
        else:
            client.call("world.fault", device, kind, amount)
            click.echo(f"{device}: {kind} {amount:g}")


def _play_scenario(
    file: Path | None, device: str | None, kind: str | None, amount: float, at_s: float, for_s: float
) -> None:
    """Faults with times, until the last has ended or Ctrl-C (which clears what is on)."""
    from labctl.up.scenario import Fault, load, play

    if file is None and (device is None or kind is None):
        raise click.UsageError("--at and --for need a DEVICE and a KIND")
    if file is not None and device is not None:
        raise click.UsageError("give a DEVICE or --scenario, not both")
    faults = load(file) if file is not None else [Fault(at_s, device or "", kind or "", amount, for_s)]
    stop = threading.Event()

    def end(_: int) -> None:
        stop.set()

    with on_signals(end, signal.SIGINT, signal.SIGTERM), places.connect(5.0) as client:
        play(client, faults, stop, click.echo)
    if stop.is_set():
        click.get_current_context().exit(130)
