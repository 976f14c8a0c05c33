"""What a run becomes: one netCDF file with units, a report that needs nothing else, run.json with its provenance."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xarray
from run_parts import SHOT, fast_core, runner
from world_lab import laboratory

from labctl.core.session import CoreSession
from labctl.core.sim import SimCore
from labctl.errors import StorageError
from labctl.run import folder as folders
from labctl.run import journal, store
from labctl.run.figures import figures
from labctl.run.publish import publish
from labctl.run.runner import Outcome
from labctl.schedule.items import Schedule, to_json
from sequences.fringe import fringe
from sequences.link import COLUMNS, link
from sequences.noise import noise

TAKEN = {
    "link": (link(), 50),
    "bell": (link(measure="bell"), 25),
    "fringe": (fringe(), 80),
    "noise": (noise(), 20),
}
FIGURES = {"link": 3, "bell": 2, "fringe": 1, "noise": 1}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    world = laboratory(7)
    core = CoreSession(SimCore(world, world.lock, world.rng("core")))
    taking = runner(
        tmp_path_factory.mktemp("runs"),
        core,
        seed=7,
        snapshot=lambda: {"alice.oven.temperature": 305.15},
        sources=world.sources(),
    )
    return {name: taking.run(schedule, rounds) for name, (schedule, rounds) in TAKEN.items()}


@pytest.mark.parametrize("name", TAKEN)
def test_the_data_opens_in_one_line_and_says_what_it_is(outcomes: dict[str, Outcome], name: str):
    folder = outcomes[name].folder
    with xarray.open_dataset(folder / "data.nc") as data:
        records = journal.read(folder / "journal").records
        assert dict(data.sizes) == {"record": TAKEN[name][1]}
        for variable in data.variables.values():
            assert variable.attrs["units"] and variable.attrs["long_name"]
        assert data["time"].values.tolist() == [time / 1e12 for _, time, _ in records]
        assert data["record"].values.tolist() == [number for number, _, _ in records]
        for column in records[0][2]:
            values = [row[column] for _, _, row in records]
            if column == "outcome":
                meanings = data[column].attrs["flag_meanings"].split()
                assert data[column].attrs["flag_values"].tolist() == list(range(len(meanings)))
                assert [meanings[value] for value in data[column].values] == values
                assert set(meanings) <= {"psi_plus", "psi_minus"}
            else:
                assert data[column].values.tolist() == values
                assert data[column].attrs["long_name"] == TAKEN[name][0].columns[column].long_name
        assert data.attrs["rid"] == outcomes[name].rid and data.attrs["reason"] == "complete"
    if name in ("link", "bell"):
        assert {"click_0_ps": "ps", "phase_sigma_rad": "rad"}.items() <= {
            column: COLUMNS[column].unit for column in COLUMNS
        }.items()


def references(page: str) -> list[str]:
    """Whatever a browser would fetch."""
    found = re.findall(r"""(?:src|href|data|action)\s*=\s*["'](?!#)[^"']*""", page, re.IGNORECASE)
    found += re.findall(r"url\((?!#)[^)]*\)|@import[^;]*|<(?:script|link|iframe|object|img)\b[^>]*", page)
    names = re.sub(r'xmlns(:\w+)?="http://[^"]*"', "", page)  # names of XML vocabularies, never fetched
    return found + re.findall(r"https?://[^\s<\"']*", names)


@pytest.mark.parametrize("name", TAKEN)
def test_the_report_holds_its_figures_and_needs_nothing_else(outcomes: dict[str, Outcome], name: str):
    page = (outcomes[name].folder / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == page.count("<figcaption>") == FIGURES[name]
    assert references(page) == []
    for result in outcomes[name].results:
        assert result.value.compact() in page
    assert "alice.oven.temperature" in page and "305.15" in page
    kind = "rounds" if name in ("link", "bell") else "shots"
    assert f"{TAKEN[name][1]} of {TAKEN[name][1]} {kind} ·" in re.sub(r"\s+", " ", page)


def test_what_a_browser_would_fetch_is_found():
    assert (
        references('<a href="https://x.org">')
        and references("<style>@import url(x.css);")
        and references("<script>")
    )


def test_run_json_says_what_made_the_run(outcomes: dict[str, Outcome]):
    outcome = outcomes["link"]
    about = folders.read_json(outcome.folder)
    stored = (outcome.folder / "schedule.json").read_bytes()
    assert stored == to_json(TAKEN["link"][0]) and about["schedule_sha256"] == folders.digest(stored)
    assert about["rid"] == outcome.rid and about["seed"] == 7 and about["reason"] == "complete"
    assert about["arguments"]["alpha"] == 0.17 and about["config"] == {"name": "test"}
    assert about["began"] < about["ended"] and about["records"] == about["rounds"] == 50
    assert about["devices_before"] == about["devices_after"] == {"alice.oven.temperature": 305.15}
    made = about["provenance"]
    assert made["packages"]["numpy"] == np.__version__ and made["python"].startswith("3.")
    assert set(made["git"]) == {"commit", "diff"} and made["platform"]
    for result in outcome.results:
        entry = about["results"][result.key]
        assert (entry["value"], entry["unit"]) == (result.value.value, result.value.unit)


@pytest.mark.parametrize(
    "schedule", [link(), link(measure="bell"), link(measure="tomography"), fringe(), noise()]
)
@pytest.mark.parametrize("records", [0, 1, 3])
def test_reports_of_hardly_any_records(tmp_path: Path, schedule: Schedule, records: int):
    world = laboratory(2)
    core = CoreSession(SimCore(world, world.lock, world.rng("core")))
    taking = runner(tmp_path, core)
    outcome = taking.run(schedule, max(records, 1))
    if records < 1:
        path = outcome.folder / "journal"
        made = journal.Journal.create(outcome.folder / "empty", journal.read(path).header)
        made.close("stopped")
        (outcome.folder / "empty").replace(path)
        publish(outcome.folder, folders.read_json(outcome.folder))
    page = (outcome.folder / "report.html").read_text()
    assert references(page) == [] and f"{records} of" in page
    with xarray.open_dataset(outcome.folder / "data.nc") as data:
        assert data.sizes["record"] == records
    assert "analysis_error" not in folders.read_json(outcome.folder)


def test_a_run_that_was_killed_is_published_by_publishing_it(tmp_path: Path):
    component = ("atom.d52_lifetime_s", 1.165, "s", "published: level table")
    outcome = runner(tmp_path, sources=[component]).run(SHOT, 9)
    path = outcome.folder / "journal"
    path.write_bytes(path.read_bytes()[:-80])  # the end mark and part of a record
    for name in ("data.nc", "report.html"):
        (outcome.folder / name).unlink()
    about = folders.read_json(outcome.folder) | {"reason": "killed"}
    found = publish(outcome.folder, about)
    assert found[0].key == "noise_rate"
    with xarray.open_dataset(outcome.folder / "data.nc") as data:
        assert 7 <= data.sizes["record"] < 9 and data.attrs["reason"] == "killed"
    page = (outcome.folder / "report.html").read_text()
    assert '<span class="bad">killed</span>' in re.sub(r"\s+", " ", page)
    assert about["components"] == [list(component)] and all(str(part) in page for part in component)
    assert not list(outcome.folder.glob("*.tmp"))


def test_plots_of_related_runs_and_the_comparison_are_in_the_report(
    outcomes: dict[str, Outcome], tmp_path: Path
):
    main = outcomes["link"].folder
    about = folders.read_json(main)
    other = folders.read_json(outcomes["fringe"].folder)
    about["related"] = [
        {
            "rid": 3,
            "folder": outcomes["fringe"].folder.name,
            "analysis": "fringe",
            "arguments": other["arguments"],
        }
    ]
    row = {
        "label": "rate",
        "this": "2.3(1)",
        "published": "2.2",
        "distance": "+4.0",
        "bad": True,
        "source": "a <paper>",
    }
    about["comparison"] = [row]
    publish(main, about)
    page = (main / "report.html").read_text()
    assert page.count("<svg") == FIGURES["link"] + 1 and "Run 3: " in page
    assert 'class="n bad">+4.0' in page and "a &lt;paper&gt;" in page
    publish(main, folders.read_json(main))


def test_the_same_records_give_the_same_drawings(outcomes: dict[str, Outcome]):
    rows = journal.read(outcomes["link"].folder / "journal").records
    one, two = (figures("heralded_pair", rows, TAKEN["link"][0].arguments) for _ in range(2))
    assert one == two and len(one) == 3


def test_missing_and_mixed_values_of_a_column(tmp_path: Path):
    rows = [
        (0, 10**12, {"a": 1, "t": "x y"}),
        (1, 2 * 10**12, {"a": 2, "b": 0.5, "t": "z"}),
        (2, 3 * 10**12, {"a": 3}),
    ]
    store.publish(
        tmp_path / "data.nc", rows, {"a": {"unit": "V", "long_name": "voltage"}}, {"rid": 1, "label": "é"}
    )
    data = store.load(tmp_path / "data.nc")
    assert (
        data["a"].values.tolist() == [1, 2, 3]
        and data["a"].dtype == np.int64
        and data["a"].attrs["units"] == "V"
    )
    assert np.isnan(data["b"].values[[0, 2]]).all() and data["b"].values[1] == 0.5
    assert data["b"].attrs == {"units": "1", "long_name": "b"}
    assert data["t"].attrs["flag_meanings"].split() == ["missing", "x_y", "z"]
    assert data["t"].attrs["flag_values"].tolist() == [-1, 0, 1]
    assert data["t"].values.tolist() == [0, 1, -1] and data.attrs["label"] == "é"


def test_readers_see_all_of_a_file_or_nothing(tmp_path: Path):
    rows = [(0, 10**12, {"a": 1})]
    store.publish(tmp_path / "data.nc", rows, {}, {})
    before = (tmp_path / "data.nc").read_bytes()
    (tmp_path / "data.nc.tmp").mkdir()  # nothing can be written there
    with pytest.raises(StorageError, match=r"data\.nc: cannot publish .*the journal beside it is complete"):
        store.publish(tmp_path / "data.nc", rows, {}, {})
    assert (tmp_path / "data.nc").read_bytes() == before


def test_run_numbers_are_never_used_again(tmp_path: Path):
    assert folders.new(tmp_path / "runs", "a") == (1, tmp_path / "runs" / "000001_a")
    assert folders.new(tmp_path / "runs", "b")[0] == 2
    (tmp_path / "runs" / "000002_b").rmdir()
    assert folders.new(tmp_path / "runs", "c")[0] == 3
    (tmp_path / "runs" / "last_rid").unlink()
    assert folders.new(tmp_path / "runs", "d")[0] == 4
    assert [path.name for path in folders.every(tmp_path / "runs")] == ["000001_a", "000003_c", "000004_d"]
    assert folders.find(tmp_path / "runs", 3).name == "000003_c"
    assert msgspec.json.decode(
        (runner(tmp_path / "x", fast_core()).run(SHOT, 1).folder / "run.json").read_bytes()
    )
