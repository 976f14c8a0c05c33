"""Commands that bring a lab up and talk to its devices."""

from __future__ import annotations

import fnmatch
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from labctl.cli import places, show_text
from labctl.cli.on_signals import on_signals
from labctl.errors import LabError, LimitError, UnknownNameError

if TYPE_CHECKING:
    from labctl.bus.client import Client
    from labctl.bus.wire import DeviceRow, Event
    from labctl.config import LabConfig
    from labctl.up.supervisor import Supervisor

SHORT = 6
"""Digits in tables; `labctl get` shows more."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
timeout_option = click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=5.0,
                              show_default=True, metavar="S", help="How long to wait for an answer.")  # fmt: skip


@click.command("up")
@click.argument("config", required=False)
@click.option("--free-ports", is_flag=True, help="Put hub and simulated instruments on free ports, so that a second copy (NAME-2) can be up.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), metavar="X", help="Laboratory seconds per real second of the simulated world.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Seed of the simulated world.")
@click.option("--sim", "simulate", multiple=True, metavar="DEVICE", help="Simulate DEVICE instead of using the real one: NODE.DEVICE, with * and ?, or all. Repeatable.")  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path), metavar="DIR", help="Folder of run folders. Default: runs/ here.")  # fmt: skip
@click.option("--ready-within", "ready_s", type=float, default=60.0, show_default=True, metavar="S", help="How long to wait for the devices.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Return when the lab is ready; it stays up until `labctl down`.")
def up_command(
    config: str | None,
    free_ports: bool,
    speed: float | None,
    seed: int | None,
    simulate: tuple[str, ...],
    runs: Path | None,
    ready_s: float,
    detach: bool,
) -> None:
    """Bring a lab up: its hub, one host process per node and, for a simulated lab, the world behind its addresses.

    CONFIG is a lab file, or its name in configs/ (default: see configs/default). Stays until Ctrl-C, then makes every
    device safe and ends.

    \b
      labctl up
      labctl up configs/ca40_10km.toml --seed 7
      labctl up ca40_10km --free-ports --detach
      labctl up ca40_10km_real --sim alice.laser_397
    """
    if detach:
        from labctl.cli.background import start_detached

        start_detached(config, free_ports, speed, seed, simulate, runs, ready_s)
        return
    from labctl.up.config_ports import with_free_ports
    from labctl.up.supervisor import Supervisor

    loaded, lab = places.load_config(config, seed=seed, speed=speed, simulate=simulate)
    click.echo(f"lab folder {lab}")
    click.echo(f"lab file   {loaded.path}")
    click.echo(f"simulated  {_simulated(loaded)}")
    if free_ports:
        loaded = with_free_ports(loaded, _free_name(loaded.name, lab))
    supervisor = Supervisor(loaded, lab, runs=runs or places.default_runs(lab), echo=click.echo)
    interrupted = _stay_up(supervisor, ready_s)
    if interrupted:
        click.get_current_context().exit(130)


def _simulated(config: LabConfig) -> str:
    """Which devices have a simulator behind them."""
    from labctl.config import simulated_devices

    simulated = simulated_devices(config)
    names = [name for name in config.device if name in simulated]
    if len(names) == len(config.device):
        return "every device"
    return f"{', '.join(names)}; the other {len(config.device) - len(names)} are real" if names else "none"


def _free_name(name: str, lab: Path) -> str:
    """A name no lab that is up has: ``name``, ``name-2``, ..."""
    from itertools import count

    from labctl.up.runtime import running

    taken = {one.name for one in running(lab)}
    return next(one for n in count(1) if (one := name if n == 1 else f"{name}-{n}") not in taken)


def _stay_up(supervisor: Supervisor, ready_s: float) -> bool:
    """Start, show, supervise; True if Ctrl-C ended it (a SIGTERM, as `labctl down` sends, is a good end)."""
    stop = threading.Event()
    starting = [True]
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        stop.set()
        if len(came) == 1:
            click.echo("\nmaking every device safe and ending; this takes a few seconds", err=True)

    def at_once(_: int) -> bool:
        was, starting[0] = starting[0], False
        return was

    with on_signals(end, signal.SIGINT, signal.SIGTERM, at_once=at_once):
        try:
            supervisor.start()
            _wait_ready(supervisor, ready_s)
            starting[0] = False
            supervisor.run_until(stop)
        except KeyboardInterrupt:
            stop.set()
        finally:
            starting[0] = False
            supervisor.close(safe=True)
    return signal.SIGINT in came


def _wait_ready(supervisor: Supervisor, ready_s: float) -> None:
    """Print the devices as they become ready; a lab with devices missing stays up, so that they can be looked after."""
    lines = show_text.StateLines(click.echo)
    try:
        supervisor.wait_ready(ready_s, lines)
    except LabError as error:
        click.echo(f"labctl: {error}", err=True)
        click.echo("the lab stays up and goes on trying; see `labctl ls`, end it with Ctrl-C", err=True)
    else:
        click.echo(
            f"up, {len(lines.ready)} devices ready; hub {supervisor.hub}. Ctrl-C makes them safe and ends"
        )


@click.command("down")
def down_command() -> None:
    """Make every device safe and end the lab that is up on this machine."""
    from labctl.up.down import down

    running = places.runtime()
    down(running)
    click.echo(f"{running.name} is down")


@click.command("ls")
@click.argument("device", required=False)
@json_option
def ls_command(device: str | None, as_json: bool) -> None:
    """List the devices of the lab, or, with DEVICE, its signals (unit, limits, value) and actions.

    \b
      labctl ls
      labctl ls alice.oven
      labctl ls --json | jq '.[] | select(.state != "ready")'
    """
    with places.connect() as client:
        if device is not None:
            _list_device(client, device, as_json)
            return
        rows = client.devices()
    if as_json:
        show_text.print_json(rows)
        return
    click.echo(device_table(rows))


def device_table(rows: Sequence[DeviceRow]) -> str:
    """Devices with driver, state, age, latency, clock offset and lease."""
    headings = ("device", "driver", "state", "age", "latency", "clock", "leased by", "reason")
    cells = [
        (
            row.device,
            row.driver.rpartition(":")[2],
            show_text.state(row.state),
            show_text.seconds(row.age_s) if row.age_s >= 0 else "never",
            show_text.seconds(row.latency_s),
            f"{row.clock_offset_s * 1e3:+.1f} ms",
            row.leased_by or "-",
            row.reason,
        )
        for row in sorted(rows, key=lambda row: row.device)
    ]
    return show_text.table(headings, cells, right=(3, 4, 5)) if cells else "no host has registered yet"


def _list_device(client: Client, device: str, as_json: bool) -> None:
    row = client.row(device)
    described = client.describe(device)
    signals: dict[str, dict[str, Any]] = described.get("signals", {})
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in signals:
        try:
            values[name] = client.get(f"{device}.{name}")
        except LabError as error:
            errors[name] = str(error)
    if as_json:
        show_text.print_json({**described, "state": row, "values": values, "errors": errors})
        return
    now = next((other for other in client.devices() if other.device == device), row)
    click.echo(f"{device}  {described['driver']}  {show_text.state(now.state)} {now.reason}".rstrip())
    if described.get("manual"):
        click.echo(f"manual: {described['manual']}")
    if signals:
        cells = [
            (
                name,
                show_text.shown(values[name], one, SHORT)
                if name in values
                else click.style("error", fg="red"),
                show_text.limits(one) if one.get("writable") else "read-only",
                errors.get(name, str(one.get("doc", ""))),
            )
            for name, one in signals.items()
        ]
        click.echo("\n" + show_text.table(("signal", "value", "limits", ""), cells))
    actions: dict[str, dict[str, Any]] = described.get("actions", {})
    if actions:
        cells = [
            (
                name + show_text.plain_signature(one.get("arguments", "")),
                (one.get("doc") or "").partition("\n")[0],
            )
            for name, one in actions.items()
        ]
        click.echo("\n" + show_text.table(("action", ""), cells))


@click.command("get")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
@timeout_option
def get_command(names: tuple[str, ...], as_json: bool, timeout_s: float) -> None:
    """Ask instruments for signals, NODE.DEVICE.SIGNAL; temperatures in degC.

    JSON has the values in the signals' own units (K, Hz, A, ...).

    \b
      labctl get alice.oven.temperature
      labctl get alice.laser_397.current bob.laser_397.current
    """
    with places.connect(timeout_s) as client:
        found = [(name, _described_signal(client, name), client.get(name, timeout_s)) for name in names]
    if as_json:
        show_text.print_json(
            {name: {"value": value, "unit": one.get("unit", "")} for name, one, value in found}
        )
    elif len(found) == 1:
        click.echo(show_text.shown(found[0][2], found[0][1]))
    else:
        for name, one, value in found:
            click.echo(f"{name:<32} {show_text.shown(value, one)}")


@click.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("value")
@timeout_option
def set_command(name: str, value: str, timeout_s: float) -> None:
    """Set a signal, NODE.DEVICE.SIGNAL, within its limits; prints what it is afterwards.

    VALUE is a number in the unit `labctl get` shows (temperatures in degC), or with its unit; true/false or on/off;
    or a list, a,b,c. Outside the limits nothing is sent.

    \b
      labctl set alice.laser_397.current 121mA
      labctl set alice.oven.temperature 41.2
      labctl set alice.laser_397.lock on
    """
    with places.connect(timeout_s) as client:
        described = _described_signal(client, name)
        if not described.get("writable", True):
            raise LimitError(f"{name} is read-only; nothing was sent")
        client.set(name, show_text.parse_value(name, value, described), timeout_s)
        click.echo(show_text.shown(client.get(name, timeout_s), described))


def _described_signal(client: Client, name: str) -> dict[str, Any]:
    device, _, signal_name = name.rpartition(".")
    if device.count(".") != 1:
        raise UnknownNameError(
            f"{name!r} is not of the form NODE.DEVICE.SIGNAL; see `labctl ls` and `labctl ls DEVICE`"
        )
    signals: dict[str, dict[str, Any]] = client.describe(device).get("signals", {})
    if signal_name not in signals:
        import difflib

        near = difflib.get_close_matches(signal_name, [*signals], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(signals) or 'none'}"
        raise UnknownNameError(f"{device} has no signal {signal_name!r}; {hint}")
    return signals[signal_name]


@click.command("call", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1)
@json_option
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, metavar="S", help="How long to wait for the result.")  # fmt: skip
def call_command(name: str, arguments: tuple[str, ...], as_json: bool, timeout_s: float) -> None:
    """Run an action of a device (or of the services core and world) and print its result.

    Numbers are in SI units; lists are written a,b,c. `labctl ls DEVICE` shows the actions and their arguments.

    \b
      labctl call alice.laser_397.relock
      labctl call world.now
    """
    device, _, action = name.rpartition(".")
    if not device:
        raise UnknownNameError(f"{name!r} is not of the form NODE.DEVICE.ACTION; see `labctl ls DEVICE`")
    with places.connect() as client:
        actions: dict[str, dict[str, Any]] = client.describe(device).get("actions", {})
        signature = str(actions.get(action, {}).get("arguments", ""))
        values = show_text.parse_arguments(name, arguments, signature)
        result = client.call(name, *values, timeout_s=timeout_s)
    if as_json:
        show_text.print_json(result)
    elif result is not None:
        click.echo(result if isinstance(result, str) else show_text.json_line(result))


@click.command("watch")
@click.argument("patterns", nargs=-1, metavar="[PATTERN...]")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--seconds", "seconds", type=click.FloatRange(min=0, min_open=True), metavar="S", help="End after S seconds.")  # fmt: skip
@json_option
def watch_command(patterns: tuple[str, ...], count: int | None, seconds: float | None, as_json: bool) -> None:
    """Print signals, device states and leases as they change, until Ctrl-C; before that, the state of each device.

    PATTERN is a device, a signal, or either with * and ?; default: everything. Prints how many events were missed,
    if any. With --json, one object per line.

    \b
      labctl watch 'alice.*'
      labctl watch alice.oven.temperature --count 10
    """
    from msgspec.structs import asdict

    from labctl.bus.events import Subscriber
    from labctl.clock import SystemClock

    clock = SystemClock()
    end = clock.now() + seconds if seconds is not None else float("inf")
    shown = 0
    units: dict[str, dict[str, Any]] = {}
    with places.connect() as client, Subscriber(places.hub_address(), ("signal.", "device.", "host.", "lease.")) as subscriber:  # fmt: skip
        while shown < (count or float("inf")) and clock.now() < end:
            event = subscriber.receive(max(0.01, min(0.5, end - clock.now())))
            if event is None or not _wanted(event.topic.partition(".")[2], patterns):
                continue
            shown += 1
            click.echo(show_text.json_line(asdict(event)) if as_json else _event_line(client, event, units))
        for topic, lost in sorted(subscriber.lost.items()):
            click.echo(f"labctl: {lost} events of {topic} were missed", err=True)


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
        for pattern in patterns
    )


def _event_line(client: Client, event: Event, units: dict[str, dict[str, Any]]) -> str:
    """``12:03:20.412  alice.oven.temperature  41.2 degC``."""
    from labctl.clock import utc_text

    kind, _, name = event.topic.partition(".")
    payload: Any = event.payload
    content = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    when = utc_text(event.time_wall)[11:23]
    if kind == "signal":
        if name not in units:
            try:
                units[name] = _described_signal(client, name)
            except LabError:
                units[name] = {"unit": content.get("unit", "")}
        text = content.get("error") or show_text.shown(content.get("value"), units[name], SHORT)
    elif kind in ("device", "host"):
        text = f"{show_text.state(str(content.get('state', '')))} {content.get('reason', '')}".rstrip()
    else:
        text = f"lease {content.get('lease', '')} ({content.get('owner', '')})"
    return f"{when}  {name:<32}  {text}"


@click.command("safe")
@click.argument("devices", nargs=-1, metavar="[DEVICE...]")
def safe_command(devices: tuple[str, ...]) -> None:
    """The big button: make DEVICEs (default: all of the lab) safe now, whoever has leased them.

    They stay safe until `labctl restore`. Exit code 1 and a list if one could not be made safe.
    """
    with places.connect() as client:
        client.safe([*devices] or None)
    click.echo(
        f"safe: {', '.join(devices) or 'every device'}; `labctl restore` brings back the declared state"
    )


@click.command("restore")
@click.argument("devices", nargs=-1, metavar="[DEVICE...]")
@timeout_option
def restore_command(devices: tuple[str, ...], timeout_s: float) -> None:
    """Set the state the lab file declares again on DEVICEs (default: all that are safe); ends "safe"."""
    with places.connect(timeout_s) as client:
        chosen = [*devices] or [row.device for row in client.devices() if row.state == "safe"]
        for device in chosen:
            client.restore(device, timeout_s)
            click.echo(f"restored {device}")
    if not chosen:
        click.echo("no device is safe: nothing to restore")
