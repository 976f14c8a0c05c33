"""Options, fixtures and parameters of the conformance kit."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl import lab as labs
from labctl.conformance.recording import Wire
from labctl.conformance.tried import Choice, Standing, Tried
from labctl.errors import LabError
from labctl.shelf import simulator_of

_choice = pytest.StashKey[Choice]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The kit's options."""
    group = parser.getgroup("labctl conformance")
    group.addoption("--driver", metavar="DRIVER", help="The driver to try, as a lab file names it: drivers.x:X, or the name of an installed one.")  # fmt: skip
    group.addoption("--simulator", metavar="INSTRUMENT", default="", help="Simulated instrument to try it on: simulated_hw.x:SimX. Default: the driver's own.")  # fmt: skip
    group.addoption("--address", metavar="ADDRESS", default="", help="Try it on the instrument at this address instead, with questions only.")  # fmt: skip
    group.addoption("--option", metavar="KEY=VALUE", action="append", default=[], help="An option of the driver, value as in a lab file. Repeatable.")  # fmt: skip
    group.addoption("--timeout-s", metavar="S", type=float, default=0.5, help="How long the driver waits for an answer (default: 0.5).")  # fmt: skip
    group.addoption("--lab", metavar="FOLDER", default="", help="Lab folder. Default: around the working directory, else the shipped one.")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Find driver and simulator; leaks count as failures."""
    try:
        config.stash[_choice] = _chosen(config)
    except LabError as error:
        raise pytest.UsageError(str(error)) from None
    for warning in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning", "pytest.PytestUnhandledThreadExceptionWarning"):  # fmt: skip
        config.addinivalue_line("filterwarnings", f"error::{warning}")


def pytest_report_header(config: pytest.Config) -> str:
    """Who is tried on what."""
    choice = config.stash[_choice]
    return f"labctl: {config.getoption('--driver')} on {choice.address or choice.simulator}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each signal where a test asks for one."""
    signals = metafunc.config.stash[_choice].driver.signals
    if "readable" in metafunc.fixturenames:
        metafunc.parametrize("readable", [*signals])
    if "writable" in metafunc.fixturenames:
        metafunc.parametrize("writable", [name for name, one in signals.items() if one.write is not None])


@pytest.fixture
def choice(request: pytest.FixtureRequest) -> Choice:
    """What the command line asked for."""
    return request.config.stash[_choice]


@pytest.fixture
def asked(choice: Choice) -> Iterator[Tried]:
    """The driver with an instrument that is only asked: a fresh simulator, or the one at ``--address``."""
    tried = Tried(choice)
    try:
        yield tried
    finally:
        tried.close()


@pytest.fixture(scope="session")
def standing(request: pytest.FixtureRequest) -> Iterator[Standing]:
    """One device that stays open for all tests that change nothing."""
    tried, wire = Tried(request.config.stash[_choice]), Wire()
    try:
        yield Standing(tried.open(wire=wire), wire)
    finally:
        tried.close()


@pytest.fixture
def tried(asked: Tried) -> Tried:
    """The driver with a fresh simulated instrument."""
    if asked.sim is None:
        pytest.skip("needs the simulated instrument; run without --address")
    return asked


def _chosen(config: pytest.Config) -> Choice:
    given = config.option
    if not given.driver:
        raise pytest.UsageError(
            "labctl.conformance: say which driver, e.g. --driver drivers.thorlabs_pm100:ThorlabsPm100"
        )
    lab = Path(given.lab).resolve() if given.lab else labs.find()
    driver = labs.find_driver(given.driver, lab)
    simulator = given.simulator or simulator_of(given.driver, lab)
    if not given.address and not simulator:
        raise pytest.UsageError(
            f"labctl.conformance: no simulated instrument belongs to {given.driver}; give --simulator or --address"
        )
    options = dict(_option(text) for text in given.option)
    return Choice(driver, lab, simulator, given.address, options, given.timeout_s)


def _option(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with a TOML value; anything that is none is text."""
    key, _, value = text.partition("=")
    try:
        return key, tomllib.loads(f"{key} = {value}")[key]
    except tomllib.TOMLDecodeError:
        return key, value
