"""Commands on recorded data, drawings of schedules, and the doctor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labctl.cli import main

LAB = Path(__file__).parents[2]
DATA = LAB / "../shared/data"
DELFT = DATA / "delft_2015" / "bell_open_data.txt"
PTU = DATA / "hydraharp_t2" / "v30_t2.ptu"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_LAB", str(LAB))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def labctl(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


@pytest.mark.skipif(not DELFT.exists(), reason="../shared/data/delft_2015 is not there")
def test_delft_2015(tmp_path: Path) -> None:
    result = labctl("analyze", "bell", "--format", "delft2015", str(DELFT))
    assert result.exit_code == 0, result.stderr
    for text in ("n = 245 ", "k = 196 ", "S = 2.4225 ± 0.2038", "p = 0.0392 ", "E(0,0)", "E(1,1)"):
        assert text in result.stdout
    assert (tmp_path / "bell_delft2015.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(
        labctl("analyze", "bell", "--format", "delft2015", str(DELFT), "--json", "--plot", "bell.svg").stdout
    )
    assert (found["n"], found["k"]) == (245, 196)
    assert found["S"] == pytest.approx(2.4225, abs=5e-5)
    assert found["S_standard_error"] == pytest.approx(0.2038, abs=5e-5)
    assert found["p"] == pytest.approx(0.0392, abs=5e-5)
    assert sum(one["trials"] for one in found["correlators"]) == 245
    assert "<svg" in (tmp_path / "bell.svg").read_text()


@pytest.mark.skipif(not DELFT.exists(), reason="../shared/data/delft_2015 is not there")
@pytest.mark.parametrize("plot", ["bell.pdf", "missing/bell.png"])
def test_a_plot_that_cannot_be_written(plot: str) -> None:
    result = labctl("analyze", "bell", "--format", "delft2015", str(DELFT), "--plot", plot)
    assert result.exit_code == 1
    assert plot in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not PTU.exists(), reason="../shared/data/hydraharp_t2 is not there")
def test_tags_info() -> None:
    result = labctl("tags", "info", str(PTU))
    assert re.search(r"photons +305 565\n", result.stdout)
    found = json.loads(labctl("tags", "info", str(PTU), "--json").stdout)
    assert found["photons"] == sum(found["photons_by_channel"].values()) == 305_565
    assert found["mean_rate_hz"] == pytest.approx(305_565 / found["duration_s"])


def test_a_file_that_is_no_time_tags(tmp_path: Path) -> None:
    (tmp_path / "x.ptu").write_bytes(b"hello world")
    result = labctl("tags", "info", "x.ptu")
    assert result.exit_code == 1
    assert "x.ptu: at byte 0: expected" in result.stderr


def test_check() -> None:
    result = labctl("check", "link")
    assert (result.exit_code, result.stdout) == (0, "link can run on ca40_10km: no problem found\n")
    assert json.loads(labctl("check", "link", "--json").stdout) == []


def test_check_as_json(tmp_path: Path) -> None:
    lab_file = LAB / "configs" / "ca40_10km.toml"
    (tmp_path / "slow.toml").write_text(
        f'extends = "{lab_file}"\n[line.bob.excite_854]\nshortest_ps = 1_000_000\n'
    )
    result = labctl("check", "link", "--config", "slow.toml", "--json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)
    assert problem["line"] == "bob.excite_854"
    assert "attempt" in problem["place"]


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "mylab" / "configs"
    (configs / "nights").mkdir(parents=True)
    (configs / "nights" / "not_a_lab.toml").write_text("nonsense")
    (configs / "good.toml").write_text('name = "good"\n')
    monkeypatch.setenv("LABCTL_LAB", str(tmp_path / "mylab"))
    well = labctl("doctor")
    assert well.exit_code == 0, well.stdout
    assert re.search(r"ok +good.toml +0 devices, 0 lines, 0 sequences, real", well.stdout)
    assert "no lab is up" in well.stdout
    (configs / "bad.toml").write_text('name = "bad"\n[hub]\nadress = "x"\n')
    ill = labctl("doctor", "--json")
    assert ill.exit_code == 1
    wrong = [one for one in json.loads(ill.stdout) if not one["good"]]
    assert [one["what"] for one in wrong] == ["bad.toml"]
    assert "unknown key 'adress'" in wrong[0]["text"]


def test_draw(tmp_path: Path) -> None:
    text = labctl("draw", "link", "--width", "90")
    assert text.exit_code == 0, text.stderr
    assert "alice.excite_854" in text.stdout
    assert max(len(line) for line in text.stdout.splitlines() if "excite_854" in line) <= 90
    assert labctl("draw", "link", "-o", "link.svg").stdout == "link.svg\n"
    assert (tmp_path / "link.svg").read_text().startswith("<svg")
    assert labctl("draw", "link", "--format", "vcd").stdout.startswith("$comment")
    assert labctl("draw", "link", "-o", "link.vcd", "--set", "window=80ns").exit_code == 0
    assert "$timescale 1 ps" in (tmp_path / "link.vcd").read_text()


def test_a_drawing_that_cannot_be_written() -> None:
    result = labctl("draw", "link", "-o", "missing/link.svg")
    assert result.exit_code == 1
    assert "missing/link.svg: cannot be written (No such file or directory)" in result.stderr


def test_drawing_leaves_numba_and_hdf5_alone() -> None:
    code = "import sys\nfrom labctl.cli import main\ntry:\n    main(['draw', 'link', '-o', 'x.svg'])\nexcept SystemExit:\n    pass\nprint(*[name for name in ('numba', 'h5py', 'scipy', 'zmq', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["x.svg", ""]
