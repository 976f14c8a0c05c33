"""device_db.py is read from its syntax tree: the same as executing it, and never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from artiq_parts import DEVICE_DB, KASLI
from hypothesis import given
from hypothesis import strategies as st

from labctl.core.artiq.device_db import read
from labctl.errors import ConfigError

CORE = 'device_db = {"core": {"type": "local", "class": "Core", "arguments": {"ref_period": 1e-9}}}\n'


def test_reading_is_the_same_as_executing() -> None:
    scope: dict[str, Any] = {}
    exec(DEVICE_DB.read_text(), scope)
    table = scope["device_db"]
    assert set(KASLI.entries) | set(KASLI.aliases) == set(table)
    for name, entry in KASLI.entries.items():
        assert entry.arguments == table[name].get("arguments", {})
        assert entry.cls == table[name].get("class", "")


def test_kinds_channels_and_clock() -> None:
    assert (KASLI.ref_period_ps, KASLI.ref_multiplier, KASLI.core) == (1000, 8, "core")
    assert len(KASLI.of_kind("output")) == 8 + 3 + 12 + 2
    assert len(KASLI.of_kind("input")) == len(KASLI.of_kind("counter")) == 4
    assert len(KASLI.of_kind("ad9910")) == 8 and len(KASLI.of_kind("ad9912")) == 4
    assert len(KASLI.of_kind("cpld")) == len(KASLI.of_kind("spi")) == 3
    assert KASLI.find("urukul1_ch3").kind == "ad9910"
    assert KASLI.find("ttl_urukul1_io_update").channel == 23
    assert KASLI.find("blink").name == "led0"
    assert KASLI.find("core_log").kind == "opaque"
    switch = KASLI.reference(KASLI.find("urukul2_ch1"), "sw_device")
    assert switch is not None and switch.channel == 31


def test_entries_know_their_line() -> None:
    lines = DEVICE_DB.read_text().splitlines()
    assert 'device_db["eeprom_urukul0"]' in lines[KASLI.find("eeprom_urukul0").line - 1]


@pytest.mark.parametrize(
    ("text", "ref_ps"), [("1e-9", 1000), ("1.25e-9", 1250), ("8e-09/8", 1000), ("1/1000000000", 1000)]
)
def test_machine_units_are_exact(tmp_path: Path, text: str, ref_ps: int) -> None:
    file = tmp_path / "device_db.py"
    file.write_text(CORE.replace("1e-9", text))
    assert read(file).ref_period_ps == ref_ps


@pytest.mark.parametrize(
    "text",
    [
        'device_db.update(a={"type": "local"})',
        'device_db.update({"a": {"type": "local"}})',
        'device_db["a"] = dict(type="local")',
        'device_db |= {"a": {"type": "local"}}',
        'for k in range(3):\n    device_db["abc"[k]] = {"type": "local"}',
        'names = [n for n in ("a", "b") if n != "b"]\nfor i, n in enumerate(names):\n    device_db[n] = {"type": "local"}',
        'x = {**device_db, "a": {"type": "lo" + "cal"}}\ndevice_db = x',
        'device_db["b"] = {"type": "local"}\ndevice_db["a"] = device_db["b"].copy()\ndel device_db["b"]',
        'device_db["a"] = {"type": "local", "arguments": {}}\ndevice_db["a"]["arguments"]["channel"] = 1 << 3 | 0x10',
        'device_db["a" if 3 > 2 else "c"] = {"type": f"{"local"}"}'.replace('{"local"}', "{'local'}"),
        '"""A docstring."""\nimport os\ndevice_db["{}".format("a")] = {"type": "local"}',
    ],
)
def test_plain_python_is_understood(tmp_path: Path, text: str) -> None:
    file = tmp_path / "device_db.py"
    file.write_text(CORE + text)
    assert "a" in read(file).entries


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("device_db = {", "line 1: not Python"),
        ("devices = {}", "assigns no dict to device_db"),
        ("device_db = {}", "no core device"),
        (CORE + "import os\ndevice_db['x'] = os", "line 3: 'os' has no value here"),
        (CORE + "device_db['x'] = open('/etc/passwd')", "line 2: a call of open"),
        (CORE + "while True:\n    pass", "line 2: a While statement"),
        (CORE + "def f():\n    pass", "line 2: a FunctionDef statement"),
        (CORE + "device_db['x'] = {}.__class__", "line 2"),
        (CORE + "x = '{0.__class__}'.format(1)", "line 2: a call of"),
        (CORE + "x = [0] * 10**9", "line 2: a text or list that is too long"),
        (CORE + "x = 2 ** (2 ** 60)", "line 2"),
        (CORE + "for i in range(10**9):\n    x = i", "line 2: a range of 1000000000"),
        (CORE + "x = 1 / 0", "line 2: cannot be worked out (ZeroDivisionError"),
        (CORE + "x = device_db['none']", "line 2: cannot be worked out (KeyError"),
        (CORE.replace("1e-9", "1e-13"), "not a whole number of picoseconds"),
        (CORE.replace("1e-9", "'1'"), "is not a time in s"),
        (CORE + "device_db['x'] = 3", "device 'x' is 3"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "device_db.py"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert str(file) in str(caught.value) and said in str(caught.value)


def test_names_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match=r"no device 'urukul9_ch0'; did you mean urukul"):
        KASLI.find("urukul9_ch0")
    with pytest.raises(ConfigError, match="no such file"):
        read("nowhere/device_db.py")


def test_aliases_in_a_circle(tmp_path: Path) -> None:
    file = tmp_path / "device_db.py"
    file.write_text(CORE + "device_db['a'] = 'b'\ndevice_db['b'] = 'a'")
    with pytest.raises(ConfigError, match="circle"):
        read(file).find("a")


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "device_db.py"
        file.write_text(CORE + text, encoding="utf-8", errors="replace")
        try:
            assert read(file).core == "core"
        except ConfigError as error:
            assert str(file) in str(error)
