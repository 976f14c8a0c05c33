import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis import delft2015
from labctl.errors import DataError, LimitError

PUBLISHED = Path(__file__).parents[2] / "../shared/data/delft_2015/bell_open_data.txt"
VALID = "2015-06-26 17:36:30.324177,1,2,5430000,0,5680000,1,0,1,10380,10367,12780,0,0,0,0,0"


@pytest.fixture(scope="module")
def published() -> delft2015.Delft2015:
    if not PUBLISHED.exists():
        pytest.skip(f"recorded data not found: {PUBLISHED}")
    return delft2015.read(PUBLISHED)


def one(tmp_path: Path, text: str = VALID) -> delft2015.Delft2015:
    path = tmp_path / "data.txt"
    path.write_text(text)
    return delft2015.read(path)


def test_published_result(published: delft2015.Delft2015) -> None:
    result = delft2015.analyse(published)
    assert (result.records, result.trials, result.wins) == (4746, 245, 196)
    assert str(result.chsh.s) == "2.4225 ± 0.2038"
    assert result.p_value == pytest.approx(0.0392, abs=5e-5)
    assert result.chsh.trials == ((53, 79), (62, 51))
    for line in ("n = 245", "k = 196", "S = 2.4225 ± 0.2038, p = 0.0391", "E(1,1) = -0.6078"):
        assert line in result.summary


def test_reading_the_published_file(published: delft2015.Delft2015) -> None:
    assert published.local_time[0] == np.datetime64("2015-06-26T17:24:12.119993")
    assert published.local_time[-1] > published.local_time[0]
    assert published.click_ps[0].tolist() == [5445065, 5671004]
    assert published.detector[1:4].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert published.random_ns[0].tolist() == [10379, 10371]
    assert published.readout_ns[0].tolist() == [11281, 13113]


def test_wider_windows_take_more_trials(published: delft2015.Delft2015) -> None:
    wide = dataclasses.replace(delft2015.PUBLISHED, window_length_ps=100_000)
    strict, loose = delft2015.valid_trials(published), delft2015.valid_trials(published, wide)
    assert loose.sum() > strict.sum()
    assert (loose | ~strict).all()


@pytest.mark.parametrize(
    ("cell", "value", "valid"),
    [
        (3, 5_426_350, True),  # window 1, detector 0: first and last picosecond
        (3, 5_426_349, False),
        (3, 5_478_799, True),
        (3, 5_478_800, False),
        (5, 5_675_700, True),  # window 2, detector 1
        (5, 5_675_699, False),
        (5, 5_728_149, True),
        (5, 5_728_150, False),
        (6, 0, False),  # both clicks on one detector
        (13, 1, False),
        (14, 77, False),
        (15, 250, False),
        (15, 251, True),
        (16, 1, False),
    ],
)
def test_each_cut(tmp_path: Path, cell: int, value: int, valid: bool) -> None:
    cells = VALID.split(",")
    assert delft2015.valid_trials(one(tmp_path)).tolist() == [True]
    # cells 3 and 5 are the click times; the detectors follow them
    cells[cell] = str(value)
    assert delft2015.valid_trials(one(tmp_path, ",".join(cells))).tolist() == [valid]


@pytest.mark.parametrize(("readout", "sign"), [(0, -1), (10_620, -1), (10_621, 1), (14_320, 1), (14_321, -1)])
def test_readout_window(tmp_path: Path, readout: int, sign: int) -> None:
    """B reads -1 throughout; the readout of A in settings (0, 0) alone decides that correlator."""
    rows = []
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cells = VALID.split(",")
        cells[7], cells[8] = str(a), str(b)
        cells[11] = str(readout if (a, b) == (0, 0) else 0)
        rows.append(",".join(cells))
    result = delft2015.analyse(one(tmp_path, "\n".join(rows)))
    assert result.chsh.correlators[0][0].value == -sign
    assert result.wins == (2 if sign > 0 else 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VALID + "\n" + VALID + ",3", r"data\.txt:2: 18 columns; expected 17"),
        (VALID.replace("2015-06-26", "26 June"), r"data\.txt:1: column 0 \(local time\)"),
        (
            VALID.replace("5430000", "54e5"),
            r":1: column 3 \(first midpoint click time\): '54e5'; expected .* ps",
        ),
        (
            VALID.replace("5680000,1", "5680000,2"),
            r":1: column 6 \(second midpoint click detector\): '2'; expected 0 or 1",
        ),
        (VALID + "\n\n" + VALID.replace("12780", "-5"), r":3: column 11 \(readout click at A\): '-5'"),
        (VALID.replace("12780", "9" * 30), r":1: column 11"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_malformed_files_are_placed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        one(tmp_path, text)


@settings(deadline=None)
@given(
    column=st.integers(0, 16),
    cell=st.text(st.characters(codec="ascii", exclude_characters=",\n"), max_size=25),
)
def test_any_cell_is_read_or_placed(column: int, cell: str) -> None:
    cells = VALID.split(",")
    cells[column] = cell
    try:
        time, row = delft2015._parse_line(Path("x.txt"), 7, ",".join(cells))
    except DataError as error:
        assert str(error).startswith(f"x.txt:7: column {column} (")
        assert repr(cell) in str(error)
    else:
        assert len(row) == 16
        assert column == 0 or row[column - 1] == int(cell)
        assert not np.isnat(time)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        delft2015.read(tmp_path / "absent.txt")
    (tmp_path / "binary.txt").write_bytes(b"2015\xff\xfe")
    with pytest.raises(DataError, match="byte 4 is not text"):
        delft2015.read(tmp_path / "binary.txt")


def test_nothing_selected_says_so(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="no trial with settings"):
        delft2015.analyse(one(tmp_path))


@pytest.mark.parametrize(("name", "magic"), [("bell.png", b"\x89PNG"), ("bell.svg", b"<?xml")])
def test_plot(tmp_path: Path, published: delft2015.Delft2015, name: str, magic: bytes) -> None:
    written = delft2015.plot(delft2015.analyse(published), tmp_path / name)
    assert written == tmp_path / name
    assert written.read_bytes().startswith(magic)


def test_plot_refuses_other_formats_and_places(tmp_path: Path, published: delft2015.Delft2015) -> None:
    result = delft2015.analyse(published)
    with pytest.raises(LimitError, match=r"\.png or \.svg"):
        delft2015.plot(result, tmp_path / "bell.doc")
    with pytest.raises(DataError, match="cannot be written"):
        delft2015.plot(result, tmp_path / "absent" / "bell.png")
