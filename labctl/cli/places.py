"""Where things are for the command line: lab folder, lab file, runs, the lab that is up, labctl's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labctl.errors import ConfigError, LimitError, NoHubError, StorageError

if TYPE_CHECKING:
    from labctl.bus.client import Client
    from labctl.config import LabConfig
    from labctl.up.runtime import Runtime


def option(name: str) -> Any:
    """An option given to ``labctl`` itself, before the command."""
    return click.get_current_context().find_root().params.get(name)


def state_folder() -> Path:
    """labctl's own folder for logs and tracebacks, ``$XDG_STATE_HOME/labctl``; made if missing."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(base) / "labctl"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lab_folder(config: Path | None = None) -> Path:
    """``--lab``, else the lab folder of a lab file, else the one labctl finds."""
    from labctl import lab as labs

    given: Path | None = option("lab")
    if given is not None:
        if not (given / "configs").is_dir():
            raise ConfigError(f"--lab {given}: that folder has no configs/; point it at a lab folder")
        return given.resolve()
    return labs.find() if config is None else labs.folder_of(config)


def config_files() -> list[Path]:
    """Every lab file of the lab folder, by name."""
    return sorted((lab_folder() / "configs").glob("*.toml"))


def config_file(given: str | None) -> Path:
    """A lab file given as a path or by its name in ``configs/``; without one, what ``configs/default`` names, or the only one there."""
    if given is None:
        given = _default()
    path = Path(given)
    if path.exists() or path.suffix == ".toml":
        return path
    files = config_files()
    for file in files:
        if file.stem == given:
            return file
    raise ConfigError(
        f"no lab file {given!r} in {lab_folder() / 'configs'}; there are {', '.join(f.stem for f in files) or 'none'}"
    )


def _default() -> str:
    """Name of the lab file meant when none is given."""
    folder = lab_folder() / "configs"
    chosen = folder / "default"
    if chosen.exists():
        return chosen.read_text(encoding="utf-8").strip()
    files = config_files()
    if not files:
        raise ConfigError(f"{folder}: no lab file there; give one, NAME.toml")
    if len(files) > 1:
        raise ConfigError(
            f"{folder} has several lab files ({', '.join(file.stem for file in files)}): name one, or write the usual one's name into {chosen}"
        )
    return files[0].stem


def load_config(
    given: str | None,
    *,
    seed: int | None = None,
    speed: float | None = None,
    simulate: tuple[str, ...] | None = None,
) -> tuple[LabConfig, Path]:
    """A lab and its folder; ``seed`` and ``speed`` replace those of its simulated world.

    simulate:  devices to simulate, as ``labctl.config.simulating`` takes them; None leaves the lab as the file has it
    """
    from labctl import config as configs

    file = config_file(given)
    config = configs.load(file)
    changed = {key: value for key, value in (("seed", seed), ("speed", speed)) if value is not None}
    if changed:
        if config.world is None:
            raise ConfigError(
                f"{file}: this lab is not simulated (it has no [world]), so --{next(iter(changed))} means nothing"
            )
        config = configs.load(file, {"world": changed})
    if simulate is not None:
        config = configs.simulating(config, simulate)
    return config, lab_folder(file)


def runtime() -> Runtime:
    """The lab that is up on this machine; NoHubError if none is."""
    from labctl.up.runtime import find

    return find(lab_folder(), option("lab_name"))


def connect(timeout_s: float = 2.0) -> Client:
    """A client of the lab that is up, or of ``--hub``."""
    from labctl.bus.client import Client

    return Client(option("hub") or runtime().hub, timeout_s)


def hub_address() -> str:
    """The hub's address, for events."""
    return option("hub") or runtime().hub


def running_config(running: Runtime) -> LabConfig:
    """The lab file of a lab that is up, with what its command line changed (ports, seed, speed)."""
    import msgspec

    from labctl import config as configs

    tables = Path(running.state) / "effective.json"
    try:
        return configs.build(Path(running.config), msgspec.json.decode(tables.read_bytes()))
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(
            f"{tables}: cannot be read ({error}); end the lab (`labctl down`) and start it again"
        ) from None


def runs_folder(given: Path | None) -> Path:
    """``--runs``, else the runs of the lab that is up, else the default folder."""
    if given is not None:
        return given
    try:
        return Path(runtime().runs)
    except NoHubError:
        return default_runs(lab_folder())


def default_runs(lab: Path) -> Path:
    """``runs/`` in the lab folder if that is where one works, else ``runs/`` here."""
    here = Path.cwd()
    return (lab if here.is_relative_to(lab) else here) / "runs"


def settings(pairs: tuple[str, ...]) -> dict[str, str]:
    """``--set key=value`` options as a table."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise LimitError(f"--set {pair}: write it as KEY=VALUE, e.g. --set alpha=0.1 --set window=60ns")
        found[key.strip()] = value.strip()
    return found
