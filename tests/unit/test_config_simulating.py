"""Which devices of a lab are simulated: ``--sim`` and the addresses of simulators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl import config as configs
from labctl import lab as labs
from labctl.errors import ConfigError
from labctl.up.config_ports import with_free_ports

ROOT = Path(__file__).parents[2]
SIMULATED, REAL = ROOT / "configs" / "ca40_10km.toml", ROOT / "configs" / "ca40_10km_real.toml"
LASER, PORT = "alice.laser_397", "tcp://127.0.0.1:17711?monitor=17712"


def flat(tables: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value by its path."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tables.items():
        found |= flat(value, (*above, key)) if isinstance(value, dict) else {(*above, key): value}
    return found


def test_the_real_lab_simulated_is_the_simulated_lab() -> None:
    assert (
        configs.simulating(configs.load(REAL), ["all"]).effective
        == configs.simulating(configs.load(SIMULATED)).effective
        == configs.load(SIMULATED).effective
    )


def test_the_simulated_lab_differs_from_the_real_one_only_in_addresses_and_world() -> None:
    real = flat(configs.simulating(configs.load(REAL)).effective)
    simulated = flat(configs.load(SIMULATED).effective)
    different = {path for path in real.keys() | simulated.keys() if real.get(path) != simulated.get(path)}
    devices = configs.load(SIMULATED).device
    addresses = {("device", *name.split("."), "address") for name in devices}
    assert {path for path in different if path[0] != "world"} == addresses
    assert not any(path[0] == "world" for path in real)
    assert all(
        real[path].partition("://")[2].removeprefix("TCPIP::").startswith("10.0.") for path in addresses
    )


def test_one_device_is_simulated_and_the_others_are_not() -> None:
    file, mixed = configs.load(REAL), configs.simulating(configs.load(REAL), [LASER])
    assert mixed.world is not None
    assert [*mixed.world.simulator] == [LASER]
    assert mixed.device[LASER].address == PORT
    changed = {name for name in file.device if mixed.device[name] != file.device[name]}
    assert changed == {LASER}
    moved = with_free_ports(mixed)
    assert {name for name in file.device if moved.device[name] != mixed.device[name]} == {LASER}


def test_a_pattern_takes_a_node() -> None:
    mixed = configs.simulating(configs.load(REAL), ["bob.*", LASER])
    assert mixed.world is not None
    assert {*mixed.world.simulator} == {LASER, *(name for name in mixed.device if name.startswith("bob."))}


def test_the_file_is_not_changed_by_choosing() -> None:
    file = configs.load(REAL)
    before = flat(file.effective)
    configs.simulating(file, ["all"])
    configs.simulating(file)
    assert flat(file.effective) == before


def test_a_lab_whose_simulators_have_no_addresses_is_simulated_whatever_is_chosen() -> None:
    for names in ((), [LASER], ["all"]):
        config = configs.simulating(configs.load(SIMULATED), names)
        assert config.world is not None
        assert {*config.world.simulator} == {*config.device}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["alice.laser_39"], "did you mean 'alice.laser_397'?"),
        (["dave.*"], "there is no [world.simulator.dave.*]"),
    ],
)
def test_what_cannot_be_simulated_is_named(names: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configs.simulating(configs.load(REAL), names)
    assert text in str(refused.value)
    assert "ca40_10km_real.toml" in str(refused.value)


CARD_LAB = f"""
extends = "{ROOT / "configs" / "ca40_10km_ni.toml"}"
[device.alice.counter]
address = "nidaqmx://10.0.4.20:31763/Dev1"
[device.alice.piezo]
address = "nidaqmx://10.0.4.20:31763/Dev1"
[device.alice.shutter]
address = "nidaqmx://10.0.4.20:31763/Dev1"
[device.bob.shutter]
driver = "drivers.ni_daq:NiShutter"
address = "nidaqmx://10.0.4.20:31763/Dev2"
[world.simulator.alice.counter]
address = "nidaqmx://127.0.0.1:17770/Dev1"
"""
ON_THE_CARD = {"alice.counter", "alice.piezo", "alice.shutter"}


@pytest.mark.parametrize("names", [["alice.counter"], ["alice.*"], ["all"]])
def test_all_devices_on_a_card_are_simulated_with_its_owner(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "card.toml").write_text(CARD_LAB)
    config = configs.simulating(configs.load(tmp_path / "card.toml"), names)
    addresses = {name: config.device[name].address for name in ON_THE_CARD}
    assert addresses == dict.fromkeys(ON_THE_CARD, "nidaqmx://127.0.0.1:17770/Dev1")
    assert config.device["bob.shutter"].address == "nidaqmx://10.0.4.20:31763/Dev2"  # another card
    assert configs.simulated_devices(config) >= ON_THE_CARD


def test_devices_on_a_card_that_is_not_simulated_stay_at_it(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD_LAB)
    file = configs.load(tmp_path / "card.toml")
    config = configs.simulating(file)
    assert all(config.device[name] == file.device[name] for name in ON_THE_CARD)
    assert not configs.simulated_devices(config) & ON_THE_CARD


def test_a_device_on_a_card_is_not_simulated_without_its_owner(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD_LAB)
    with pytest.raises(ConfigError, match=r"alice.piezo is on the NI card of alice.counter: give that"):
        configs.simulating(configs.load(tmp_path / "card.toml"), ["alice.piezo"])


def test_a_lab_without_a_world_simulates_nothing(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text('name = "real"\n')
    real = configs.load(tmp_path / "real.toml")
    assert configs.simulating(real) is real
    with pytest.raises(ConfigError, match=r"real.toml has no \[world\]"):
        configs.simulating(real, ["all"])


def test_a_wrong_address_of_a_simulator_is_found_whether_it_is_used_or_not(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(
        f'extends = "{REAL}"\n[world.simulator.alice.oven]\naddress = "tcp://127.0.0.1"\n'
    )
    with pytest.raises(
        ConfigError, match=r"\[world.simulator.alice.oven\]: address .* needs a host and a port"
    ):
        configs.load(tmp_path / "wrong.toml")


def test_two_simulators_at_one_port_are_found_when_both_are_used(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(
        f'extends = "{REAL}"\n[world.simulator.alice.oven]\naddress = "{PORT}"\n'
    )
    lab = configs.load(tmp_path / "wrong.toml")
    configs.simulating(lab, [LASER])
    with pytest.raises(ConfigError, match="give one of them another port"):
        configs.simulating(lab, [LASER, "alice.oven"])


def test_every_device_of_the_real_lab_can_be_made() -> None:
    config = configs.load(REAL)
    for name in config.device:
        assert labs.device_maker(config, name, ROOT)().name == name


def test_component_values_extend_a_file_and_are_changed_in_the_lab_file(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        '[fibre]\nloss_db_per_km = [0.2, "guessed"]\nindex = [1.468, "published"]\n'
    )
    (tmp_path / "long.toml").write_text(
        'extends = "base.toml"\n[fibre]\nloss_db_per_km = [0.16, "guessed"]\n'
    )
    world = configs.merge(
        configs.read_extended(tmp_path / "long.toml"), {"fibre": {"index": [1.4, "guessed: by the lab file"]}}
    )
    assert world == {
        "fibre": {"loss_db_per_km": [0.16, "guessed"], "index": [1.4, "guessed: by the lab file"]}
    }
