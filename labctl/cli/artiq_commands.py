"""Commands for laboratories that run ARTIQ beside labctl."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from labctl.cli import places
from labctl.cli.on_signals import on_signals
from labctl.errors import ConfigError, UnknownNameError

FIRST_PORT = 3300
PORT = click.IntRange(0, 65535)


@click.command("serve")
@click.argument("devices", nargs=-1, metavar="[DEVICE...]")
@click.option("--ndsp", is_flag=True, help="Serve DEVICEs (default: all of the lab) as ARTIQ controllers.")
@click.option("-p", "--port", type=PORT, metavar="PORT", help=f"Port of a single DEVICE; of several: of the lab's first device. Default: {FIRST_PORT} on.")  # fmt: skip
@click.option("--datasets", type=PORT, metavar="PORT", help="Publish the newest run's records and figures, and the lab's signals, as ARTIQ datasets (read-only) there.")  # fmt: skip
@click.option("--pyon", type=click.IntRange(1, 2), default=2, show_default=True, metavar="VERSION", help="PYON of the datasets: 2 for ARTIQ 9, 1 for ARTIQ 8 and older. Controllers speak both.")  # fmt: skip
@click.option("--bind", "addresses", multiple=True, metavar="ADDRESS", help="Listen on this address too.")
@click.option("--no-localhost-bind", is_flag=True, help="Do not listen on the loopback.")
@click.option("--open-to-everybody", is_flag=True, help="Allow addresses that other machines reach: ARTIQ's protocols have no passwords.")  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Folder of runs. Default: that of the lab.")  # fmt: skip
def serve_command(
    devices: tuple[str, ...],
    ndsp: bool,
    port: int | None,
    datasets: int | None,
    pyon: int,
    addresses: tuple[str, ...],
    no_localhost_bind: bool,
    open_to_everybody: bool,
    runs: Path | None,
) -> None:
    """Serve the lab that is up to ARTIQ: devices as controllers, runs and signals as datasets. Until Ctrl-C.

    \b
      labctl serve --ndsp
      labctl serve --ndsp alice.laser_397 --port 3300
      labctl serve --datasets 3250 --pyon 1
    """
    from labctl.ndsp import datasets as mirrored
    from labctl.ndsp import served
    from labctl.ndsp.publisher import StructPublisher

    if not ndsp and datasets is None:
        raise click.UsageError("nothing to serve; give --ndsp, --datasets PORT, or both")
    hosts = _hosts(addresses, no_localhost_bind, open_to_everybody)
    with ExitStack() as opened:
        client = opened.enter_context(places.connect())
        if ndsp:
            chosen = _ports(devices, [row.device for row in client.devices() if "." in row.device], port)
            serving = served.ServedDevices(client, chosen, hosts)
            opened.callback(serving.close)
            for device, at in serving.ports.items():
                click.echo(f"{device:<28} {hosts[0]}:{at}  target {served.target_name(device)}")
        else:
            serving = None
        if datasets is not None:
            publisher = StructPublisher(mirrored.NOTIFIER, pyon, hosts, datasets)
            opened.callback(publisher.close)
            mirror = mirrored.DatasetMirror(publisher, places.runs_folder(runs), places.hub_address())
            opened.callback(mirror.close)
            click.echo(f"{'datasets':<28} {hosts[0]}:{publisher.port}  PYON {pyon}")
        _stay(serving)


def _stay(serving: object) -> None:
    """Until Ctrl-C, SIGTERM, or until every controller has been told to terminate."""
    import signal
    import threading

    from labctl.ndsp.served import ServedDevices

    ended = serving.ended if isinstance(serving, ServedDevices) else threading.Event()

    def end(_: int) -> None:
        ended.set()

    with on_signals(end, signal.SIGINT, signal.SIGTERM):
        click.echo("serving; Ctrl-C ends")
        ended.wait()


def _hosts(addresses: tuple[str, ...], no_localhost: bool, everybody: bool) -> list[str]:
    hosts = ([] if no_localhost else ["127.0.0.1"]) + [one for one in addresses if one != "127.0.0.1"]
    if not hosts:
        raise ConfigError("no address left to listen on; give --bind ADDRESS")
    beyond = [one for one in hosts if not one.startswith("127.") and one not in ("localhost", "::1")]
    if beyond and not everybody:
        raise ConfigError(
            f"other machines reach {beyond[0]}, and ARTIQ's protocols have no passwords; add --open-to-everybody if your network is closed"
        )
    return ["0.0.0.0" if one == "*" else one for one in hosts]


def _ports(devices: tuple[str, ...], there: list[str], port: int | None) -> dict[str, int]:
    from labctl.ndsp import served

    for device in devices:
        if device not in there:
            import difflib

            near = difflib.get_close_matches(device, there, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(there))}"
            raise UnknownNameError(f"no device {device!r}; {hint}")
    if port is not None and len(devices) == 1:
        return {devices[0]: port}
    if port == 0:
        return dict.fromkeys(devices or there, 0)
    every = served.ports(there, FIRST_PORT if port is None else port)
    return {device: every[device] for device in devices or sorted(there)}


@click.group("artiq")
def artiq_command() -> None:
    """For ARTIQ: what to put into its device_db.py. Schedules are compiled by `labctl compile --core artiq`."""


@artiq_command.command("device-db")
@click.option(
    "--config", metavar="CONFIG", help="Lab file, or its name in configs/. Default: see configs/default."
)
@click.option("--port", type=click.IntRange(1, 65535), default=FIRST_PORT, show_default=True, metavar="PORT", help="Port of the first device; the others follow.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Machine on which they are served.")  # fmt: skip
def device_db_command(config: str | None, port: int, host: str) -> None:
    """Print device_db.py entries: each device of the lab file as a controller.

    \b
      labctl artiq device-db >> device_db.py
    """
    from labctl.ndsp.served import device_db

    loaded, _ = places.load_config(config)
    click.echo(device_db([*loaded.device], port, host))
