"""Plans, rows and merged blocks; and that a reproduction does not depend on the number of processes or on being killed."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.herald import two_photon_herald
from labctl.analysis.value import Estimate
from labctl.cli import main
from labctl.errors import ConfigError, DataError, RunError
from labctl.reproduce import block as blocks
from labctl.reproduce.formulas import FORMULAS
from labctl.reproduce.merged import Columns
from labctl.reproduce.pace import Cost, pace
from labctl.reproduce.plan import Plan, Size, load
from labctl.reproduce.reproduce import reproduce
from labctl.reproduce.rows import Row, compare, value_of
from labctl.run.journal import JournalContent
from labctl.run.results import results
from labctl.run.table import Table
from labctl.schedule.check import check

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "configs" / "reproduce").glob("*.toml"))
BEAM = "grid_ps = 1000\nshortest_ps = 20_000\n"
SMALL = f"""
name = "small"
[world]
model = "simulated_hw.world.laboratory:Laboratory"
build = "simulated_hw.bench:build"
parameters = "{ROOT / "configs" / "world" / "ca40_10km.toml"}"
[world.changes.run]
powered = [true, "guessed: a lab of two instruments only"]
[device.bob.aom]
driver = "drivers.moglabs_qrf:MoglabsQrf"
address = "tcp://127.0.0.1:17701"
state = {{ power_dbm_4 = 30.0, output_4 = true }}
[world.simulator.bob.aom]
instrument = "simulated_hw.moglabs_qrf:SimMoglabsQrf"
parts = ["bob.aom"]
[device.charlie.snspd]
driver = "drivers.single_quantum_atlas:SingleQuantumAtlas"
address = "tcp://127.0.0.1:17702?counts=17703"
options = {{ detectors = 2 }}
state = {{ bias = [20e-6, 20e-6], trigger_level = [0.1, 0.1], enabled = true }}
[world.simulator.charlie.snspd]
instrument = "simulated_hw.single_quantum_atlas:SimAtlas"
parts = ["charlie.snspd"]
""" + "".join(
    f"[line.{name}]\n{BEAM}{more}"
    for name, more in (
        *((f"{node}.{beam}", "") for node in ("alice", "bob") for beam in ("cool_397", "repump_866")),
        *((f"charlie.snspd_{d}", 'direction = "in"\nkind = "detector"\n') for d in (0, 1)),
    )
)
"""A lab file with just what counts dark clicks: two instruments, so that it is up at once."""
LAB = 'lab = "small.toml"'
PUBLISHED = """
[rate]
label = "rate"
value = 2.0
sigma = 0.3
unit = "Hz"
source = "somewhere"

[bound]
label = "bound"
at_least = 0.9
source = "somewhere"
"""
TWO = f"""
title = "two runs"
published = ["known.toml"]

[run.light]
{LAB}
sequence = "noise"
arguments = {{ gate = "100 ms" }}
quick = {{ rounds = 12, block = 6 }}

[run.dark]
{LAB}
sequence = "noise"
arguments = {{ gate = "100 ms" }}
set = {{ "bob.aom.output_4" = false }}
changes = {{ detectors = {{ dark_hz = [50.0, "guessed: a bad cable"] }} }}
quick = {{ rounds = 10 }}

[[row]]
label = "noise"
value = "dark.noise_rate"

[[figure]]
kind = "run"
caption = "light"
run = "light"

[[figure]]
kind = "blocks"
caption = "noise"
run = "dark"
results = ["noise_rate"]
published = ["rate"]
"""


def plan_of(folder: Path, text: str = TWO) -> Plan:
    (folder / "known.toml").write_text(PUBLISHED)
    (folder / "small.toml").write_text(SMALL)
    (folder / "plan.toml").write_text(text)
    return load(folder / "plan.toml")


def rows_of(tmp_path: Path, table: str, found: dict[str, Estimate]) -> Row:
    plan = plan_of(tmp_path, TWO.split("[[row]]")[0] + f'[[row]]\nlabel = "a row"\n{table}\n')
    return compare(plan, {"dark": found})[0]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_shipped_plan_is_whole_and_its_schedules_can_be_made(path: Path) -> None:
    plan = load(path)
    for key, run in plan.runs.items():
        one = blocks.Block(
            key, 0, plan.lab_file(key), run.sequence, {k: str(v) for k, v in run.arguments.items()},
            run.set, run.changes, 1, 1, Path("nowhere"),
        )  # fmt: skip
        config, _, made = blocks.lab_of(one)
        assert check(made, config.line) == []
        for signal in run.set:
            assert signal.rpartition(".")[0] in config.device


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('value = "dark.noise_rate"', 'value = "light"', "neither RUN.RESULT nor published.KEY"),
        ('value = "dark.noise_rate"', 'value = "gone.rate"', "'gone.rate' is neither"),
        ('value = "dark.noise_rate"', 'formula = "magic"', "no formula 'magic'; there are ratio"),
        ('value = "dark.noise_rate"', "", "just one of value, formula and skipped"),
        ('value = "dark.noise_rate"', 'value = "dark.noise_rate"\npublished = "x"', "no published figure 'x'"),
        ('published = ["rate"]', 'published = ["x"]', "no published figure 'x'"),
        ('run = "light"', 'run = "gone"', "no run 'gone'"),
        ("rounds = 10", "round = 10", r"unknown field `round`"),
        ('["known.toml"]', '["known.toml", "known.toml"]', "stands in two files"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_plan_is_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    assert old in TWO
    with pytest.raises(ConfigError, match=text):
        plan_of(tmp_path, TWO.replace(old, new))


def test_blocks_have_all_rounds_and_seeds_of_their_own() -> None:
    assert Size(25, 10).blocks() == [10, 10, 5]
    assert Size(25).blocks() == [25]
    seeds = {blocks.block_seed(seed, key, n) for seed in (1, 2) for key in ("a", "b") for n in range(50)}
    assert len(seeds) == 200


@pytest.mark.parametrize(
    ("table", "value", "pull", "verdict"),
    [
        ('published = "rate"', Estimate(2.5, 0.4, "Hz"), 1.0, "agrees"),
        ('published = "rate"', Estimate(4.5, 0.4, "Hz"), 5.0, "differs"),
        ('published = "rate"\nrange = [1.0, 2.0]', Estimate(1.5, 0.1, "Hz"), 0.0, "agrees"),
        ('published = "rate"\nrange = [1.0, 2.0]', Estimate(2.2, 0.1, "Hz"), 2.0, "agrees"),
        ('published = "rate"\nrange = [1.0, 2.0]', Estimate(0.6, 0.1, "Hz"), -4.0, "differs"),
        ("range = [1.0, 2.0]", Estimate(3.0, 0.0, "Hz"), math.inf, "differs"),
        ('published = "bound"', Estimate(0.95, 0.01), 0.0, "agrees"),
        ('published = "bound"', Estimate(0.80, 0.02), -5.0, "differs"),
        ("", Estimate(0.80, 0.02), None, ""),
    ],
)
def test_the_distance_of_a_row(
    tmp_path: Path, table: str, value: Estimate, pull: float | None, verdict: str
) -> None:
    row = rows_of(tmp_path, f'value = "dark.rate"\n{table}', {"rate": value})
    assert row.verdict == verdict
    assert row.pull == (None if pull is None else pytest.approx(pull))


def test_a_row_without_its_run_says_why(tmp_path: Path) -> None:
    assert (
        rows_of(tmp_path, 'value = "dark.rate"', {}).note
        == "run dark did not determine 'rate'; it has no figures"
    )
    assert rows_of(tmp_path, 'value = "light.rate"', {}).verdict == "not run"
    skipped = rows_of(tmp_path, 'skipped = "no time"\npublished = "rate"', {})
    assert (skipped.verdict, skipped.note, skipped.published) == ("not run", "no time", "2.0(3) Hz")


def test_operands_and_formulas(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    found = {"dark": {"rate": Estimate(4.0, 0.2, "Hz")}}
    rate, known = value_of(plan, found, "dark.rate"), value_of(plan, found, "published.rate")
    assert FORMULAS["ratio"](rate, known).value == pytest.approx(2.0)
    assert FORMULAS["ratio"](rate, known).standard_error == pytest.approx(
        2.0 * math.hypot(0.05, 0.15), rel=1e-3
    )
    assert FORMULAS["difference"](rate, known) == Estimate(2.0, math.hypot(0.2, 0.3), "Hz")
    assert FORMULAS["mean"](rate, known) == Estimate(3.0, math.hypot(0.2, 0.3) / 2, "Hz")
    hours = FORMULAS["hours"](value_of(plan, found, 3600), rate)
    assert (hours.value, hours.standard_error, hours.unit) == (
        pytest.approx(0.25),
        pytest.approx(0.0125),
        "h",
    )
    eta_a, eta_b = 0.026 * 0.091, 0.028 * 0.091
    heralds = Estimate(0.05 * (eta_a + eta_b), 0.0)
    faster = FORMULAS["over_two_photon"](Estimate(0.05, 0.0), heralds).value
    two = two_photon_herald(eta_a, eta_b, 0.0, 1.0).probability
    assert faster == pytest.approx(heralds.value / two, rel=2e-3)  # equal arms and nearly equal ones
    with pytest.raises(RunError, match="not part of this"):
        value_of(plan, found, "light.rate")


ROUND = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(("psi_plus", "psi_minus")),
        "attempts": st.integers(1, 10**6),
        "click_0_ps": st.integers(-1, 60_000),
        "click_1_ps": st.integers(-1, 60_000),
        "phase_sigma_rad": st.floats(0.1, 0.3),
        "setting": st.integers(0, 8),
        "bright_a": st.integers(0, 1),
        "bright_b": st.integers(0, 1),
    }
)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(ROUND, min_size=1, max_size=20), min_size=1, max_size=4))
def test_merged_blocks_are_one_table(parts: list[list[dict[str, Any]]]) -> None:
    merged, rows, end_ps = Columns(), [], 0
    for part in parts:
        content = JournalContent(records=[(n, (n + 1) * 10**12, values) for n, values in enumerate(part)])
        content.end = {"time_ps": (len(part) + 3) * 10**12}
        merged.add(content)
        rows += [(n, end_ps + time_ps, values) for n, time_ps, values in content.records]
        end_ps += content.end["time_ps"]
    whole, table = merged.finish(), Table(rows)
    assert len(whole) == len(table) == len(rows)
    assert whole.time_s == pytest.approx(table.time_s)
    assert whole.span_s == pytest.approx(end_ps / 1e12)
    for name in rows[0][2]:
        assert whole.has(name)
        assert np.array_equal(whole.column(name), table.column(name))
    arguments = {"measure": "fidelity"}
    assert results("heralded_pair", whole, arguments) == results("heralded_pair", rows, arguments)
    with pytest.raises(DataError, match="no column 'other'"):
        whole.column("other")


def test_blocks_with_other_columns_are_refused() -> None:
    merged = Columns()
    merged.add(JournalContent(records=[(0, 1, {"a": 1})]))
    with pytest.raises(DataError, match="different columns"):
        merged.add(JournalContent(records=[(0, 1, {"b": 1})]))


def test_the_same_bytes_whatever_the_processes_and_killed_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "code_digest", lambda lab: "the same code all the time")
    plan = plan_of(tmp_path)
    said: list[str] = []
    one = reproduce(plan, tmp_path / "one", processes=1, echo=said.append)
    two = reproduce(plan, tmp_path / "two", processes=2, echo=said.append)
    for name in ("reproduction.json", "report.html"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert one.runs["dark"].results["noise_rate"].value > 50  # the changed component value, one converter
    summary = json.loads((one.folder / "reproduction.json").read_text())
    assert [b["rounds"] for b in summary["runs"]["light"]["blocks"]] == [6, 6]
    assert len({b["sha256"] for b in summary["runs"]["light"]["blocks"]}) == 2
    # killed: one block without its mark, another of other making
    (one.folder / "light" / "0001" / "block.json").unlink()
    mark = one.folder / "dark" / "0000" / "block.json"
    mark.write_text(mark.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    shutil.rmtree(two.folder / "light" / "0000")
    before = (one.folder / "reproduction.json").read_bytes()
    said.clear()
    again = reproduce(plan, tmp_path / "one", processes=1, echo=said.append)
    assert said[0] == "two runs: 3 blocks, 1 of them there already; 16 rounds to take"
    assert (again.folder / "reproduction.json").read_bytes() == before


def test_the_command_prints_the_table_or_json(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TWO.replace("{ rounds = 12, block = 6 }", "{ rounds = 3 }"))
    common = ["reproduce", str(plan.path), "--out", str(tmp_path / "out"), "--processes", "1", "--seed", "3"]
    printed = CliRunner().invoke(main, common)
    assert printed.exit_code == 0, printed.output
    assert "quantity  measured" in printed.output
    assert "plan_quick_seed3/report.html" in printed.output
    whole = json.loads(CliRunner().invoke(main, [*common, "--json"]).stdout)
    row = whole["plan"]["rows"][0]
    assert row["label"] == "noise" and row["unit"] == "Hz" and row["value"] > 50
    page = (tmp_path / "out" / "plan_quick_seed3" / "report.html").read_text()
    assert "guessed" in page and "<svg" in page and "http" not in page.replace("http://www.w3.org", "")


def test_several_seeds_stand_beside_each_other(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TWO.replace("{ rounds = 12, block = 6 }", "{ rounds = 3 }"))
    common = ["reproduce", str(plan.path), "--out", str(tmp_path / "out"), "--processes", "1"]
    printed = CliRunner().invoke(main, [*common, "--seeds", "3,4"])
    assert printed.exit_code == 0, printed.output
    last = printed.output.strip().splitlines()[-3:]
    assert last[0].split()[-4:] == ["seed", "3", "seed", "4"] and last[1].startswith("noise")
    assert last[2].split()[-2:] == ["0/0/0", "0/0/0"]  # nothing published for this row
    assert "rounds per CPU second" in printed.output
    pace = json.loads((tmp_path / "out" / "plan_quick_seed4" / "pace.json").read_text())["runs"]
    assert [one["rounds"] for one in pace] == [3, 10] and all(one["cpu_s"] > 0 for one in pace)
    for seeds, text in (("1,x", "not a list of whole numbers"), ("1,1", "twice")):
        assert text in CliRunner().invoke(main, [*common, "--seeds", seeds]).output


def test_what_blocks_took_together() -> None:
    costs = [Cost(10.0, 20.0, 8.0, 5), Cost(12.0, 25.0, 9.0, 6), Cost(100.0, 101.0, 1.0, 7)]
    found = pace("key", 300, 5400.0, costs)
    assert found is not None
    assert (found.wall_s, found.cpu_s, found.peak_bytes) == (
        16.0,
        18.0,
        (5, 6, 7),
    )  # the pause is not counted
    assert pace("key", 300, 5400.0, [*costs, Cost()]) is None  # taken by a version that did not say


def test_recorded_data_may_be_absent(tmp_path: Path) -> None:
    known = """[recorded.raw]
alice = "a.bin"
bob = "b.bin"
rounds = 100
disclosed = 8
source = "to be had somewhere"
[[row]]
label = "errors"
value = "raw.errors"
"""
    plan = plan_of(tmp_path, TWO.split("[[row]]")[0] + known)
    row = compare(plan, {})[0]
    assert row.verdict == "not run" and "a.bin" in row.note and "to be had somewhere" in row.note
    (tmp_path / "a.bin").write_bytes(b"\xf0\x0f")
    (tmp_path / "b.bin").write_bytes(b"\xf0\x0e")
    assert compare(plan, {})[0].value == 1


def test_an_unknown_plan_is_named() -> None:
    refused = CliRunner().invoke(main, ["reproduce", "ca40_11km"])
    assert refused.exit_code == 1
    assert "no plan 'ca40_11km'" in refused.output and "ca40_101km" in refused.output
