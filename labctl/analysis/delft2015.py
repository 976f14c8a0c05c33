"""The published event-ready Bell test of Delft 2015: reader of its text file, its analysis and a plot.

B. Hensen et al., Nature 526, 682 (2015), doi:10.1038/nature15759; data doi:10.4121/uuid:6e19e9b2-4a2d-40b5-8dd3-a660bf3c0a31.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.bell import Chsh, chsh, count_trials, memoryful_p_value
from labctl.errors import DataError, LimitError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class _Column(NamedTuple):
    name: str
    expected: str
    accepts: Callable[[int], bool]


def _natural(value: int) -> bool:
    return 0 <= value < 2**63


def _bit(value: int) -> bool:
    return value in (0, 1)


def _time(name: str, unit: str) -> _Column:
    return _Column(name, f"a whole number of {unit} >= 0", _natural)


_COLUMNS = (
    _Column("run", "a whole number >= 0", _natural),
    _Column("block", "a whole number >= 0", _natural),
    _time("first midpoint click time", "ps"),
    _Column("first midpoint click detector", "0 or 1", _bit),
    _time("second midpoint click time", "ps"),
    _Column("second midpoint click detector", "0 or 1", _bit),
    _Column("setting of A", "0 or 1", _bit),
    _Column("setting of B", "0 or 1", _bit),
    _time("random number time at A", "ns"),
    _time("random number time at B", "ns"),
    _time("readout click at A", "ns"),
    _time("readout click at B", "ns"),
    _Column("click during excitation at A", "a whole number >= 0", _natural),
    _Column("click during excitation at B", "a whole number >= 0", _natural),
    _Column("pulses since invalid marker at A", "a whole number >= 0", _natural),
    _Column("pulses since invalid marker at B", "a whole number >= 0", _natural),
)
"""The integer columns 1 to 16 of the file; column 0 is the local date and time."""


@dataclass(frozen=True)
class Delft2015:
    """The file's columns, one entry per two-click record at the midpoint station.

    Arrays with a last axis of two are (first, second click) at the midpoint or (A, B) at the nodes.
    Zero stands for "none" in readout clicks, excitation clicks and invalid markers.
    """

    local_time: NDArray[np.datetime64]
    run: IntArray
    block: IntArray
    click_ps: IntArray
    detector: IntArray
    setting: IntArray
    random_ns: IntArray
    readout_ns: IntArray
    excitation_click: IntArray
    pulses_since_invalid: IntArray


@dataclass(frozen=True)
class Selection:
    """What makes a record a valid trial; the defaults are the pre-registered ones of the publication."""

    first_window_start_ps: tuple[int, int] = (5_426_350, 5_425_700)
    """Start of the first click window on detector 0 and on detector 1."""
    window_length_ps: int = 52_450
    second_window_delay_ps: int = 250_000
    invalid_marker_pulses: int = 250
    readout_after_ns: int = 10_620
    """A readout click counts when later than this and not later than ``readout_until_ns``."""
    readout_until_ns: int = 14_320
    predictability: float = 1.08e-5
    """Excess predictability of the random settings."""


PUBLISHED = Selection()


@dataclass(frozen=True)
class Delft2015Result:
    """The test's outcome: n trials, k wins, S with its correlators, and the p-value of all local models."""

    records: int
    trials: int
    wins: int
    chsh: Chsh
    p_value: float

    @property
    def summary(self) -> str:
        """The result in five lines."""
        lines = [
            f"valid trials n = {self.trials} of {self.records} records, wins k = {self.wins}",
            f"S = {self.chsh.s}, p = {self.p_value:.4g}",
        ]
        for a in (0, 1):
            for b in (0, 1):
                lines.append(f"E({a},{b}) = {self.chsh.correlators[a][b]}  ({self.chsh.trials[a][b]} trials)")
        return "\n".join(lines)


def read(path: Path | str) -> Delft2015:
    """Read the published text file: comma-separated, 17 columns, no header.

    Raises DataError, with file, line and column, for anything that does not fit the format or is missing.
    """
    path = Path(path)
    times: list[np.datetime64] = []
    rows: list[list[int]] = []
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; give the file bell_open_data.txt"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not text; expected the file bell_open_data.txt"
        ) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            time, row = _parse_line(path, number, line)
            times.append(time)
            rows.append(row)
    if not rows:
        raise DataError(f"{path}: the file is empty; expected one row per two-click record")
    table = np.array(rows, dtype=np.int64)
    return Delft2015(
        local_time=np.array(times, dtype="datetime64[us]"),
        run=table[:, 0],
        block=table[:, 1],
        click_ps=table[:, [2, 4]],
        detector=table[:, [3, 5]],
        setting=table[:, [6, 7]],
        random_ns=table[:, [8, 9]],
        readout_ns=table[:, [10, 11]],
        excitation_click=table[:, [12, 13]],
        pulses_since_invalid=table[:, [14, 15]],
    )


def _parse_line(path: Path, number: int, line: str) -> tuple[np.datetime64, list[int]]:
    cells = line.split(",")
    if len(cells) != len(_COLUMNS) + 1:
        raise DataError(
            f"{path}:{number}: {len(cells)} columns; expected {len(_COLUMNS) + 1}, comma-separated"
        )
    try:
        time = np.datetime64(cells[0].strip(" \t\r"), "us")
    except ValueError:
        time = np.datetime64("NaT", "us")
    if np.isnat(time):
        raise DataError(
            f"{path}:{number}: column 0 (local time): {cells[0]!r}; expected e.g. 2015-06-26 17:24:12.119993"
        )
    row: list[int] = []
    for index, (cell, column) in enumerate(zip(cells[1:], _COLUMNS, strict=True), start=1):
        digits = cell.strip(" \t\r")
        value = int(digits) if digits.isdecimal() and len(digits) < 20 else -1
        if not column.accepts(value):
            raise DataError(
                f"{path}:{number}: column {index} ({column.name}): {cell!r}; expected {column.expected}"
            )
        row.append(value)
    return time, row


def valid_trials(data: Delft2015, selection: Selection = PUBLISHED) -> BoolArray:
    """Mask of the records that are valid trials: a psi-minus herald with nothing against it, outcomes unseen."""
    start = np.array(selection.first_window_start_ps)[data.detector]
    start = start + np.array([0, selection.second_window_delay_ps])
    in_window = (data.click_ps >= start) & (data.click_ps < start + selection.window_length_ps)
    since = data.pulses_since_invalid
    marker_clear = (since == 0) | (since > selection.invalid_marker_pulses)
    heralded = in_window.all(axis=1) & (data.detector[:, 0] != data.detector[:, 1])
    return heralded & marker_clear.all(axis=1) & (data.excitation_click == 0).all(axis=1)


def analyse(data: Delft2015, selection: Selection = PUBLISHED) -> Delft2015Result:
    """The published analysis: S = E00 + E01 + E10 - E11 and P(K >= k) for a local model with memory.

    A node's outcome is +1 when its readout clicked in the window, else -1. Raises LimitError when the
    selection leaves one of the four settings without a trial.
    """
    valid = valid_trials(data, selection)
    readout = data.readout_ns[valid]
    clicked = (readout > selection.readout_after_ns) & (readout <= selection.readout_until_ns)
    outcome = np.where(clicked, 1, -1)
    setting = data.setting[valid]
    test = chsh(count_trials(setting[:, 0], setting[:, 1], outcome[:, 0], outcome[:, 1]), minus=(1, 1))
    p_value = memoryful_p_value(test.wins, test.total_trials, selection.predictability)
    return Delft2015Result(len(data.run), test.total_trials, test.wins, test, p_value)


def plot(result: Delft2015Result, path: Path | str) -> Path:
    """Draw the four correlators with errors, local bound and quantum ideal; writes PNG or SVG by the suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg"):
        raise LimitError(f"{path}: a plot is written as .png or .svg")
    figure: Any = Figure(figsize=(5.5, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.add_subplot(), result)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(f"{path}: the plot cannot be written: {error.strerror}") from error
    return path


def _draw(axes: Any, result: Delft2015Result) -> None:
    settings = [(a, b) for a in (0, 1) for b in (0, 1)]
    values = [result.chsh.correlators[a][b] for a, b in settings]
    axes.bar(
        range(4),
        [item.value for item in values],
        yerr=[item.standard_error for item in values],
        color="#88aacc",
        capsize=4,
        width=0.6,
    )
    for index, (a, b) in enumerate(settings):
        sign = -1 if a and b else 1
        for size, style in ((2**-0.5, "dashed"), (0.5, "dotted")):
            axes.hlines(sign * size, index - 0.4, index + 0.4, colors="#222222", linestyles=style)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(4), [f"({a},{b})\n{result.chsh.trials[a][b]} trials" for a, b in settings])
    axes.set_ylim(-1, 1)
    axes.set_xlabel("settings (a, b)")
    axes.set_ylabel("correlator E")
    axes.set_title(
        f"S = {result.chsh.s},  k/n = {result.wins}/{result.trials},  p = {result.p_value:.3g}", fontsize=10
    )
    axes.text(
        0.02,
        0.03,
        "dashed: quantum ideal\ndotted: each a quarter of S = 2",
        transform=axes.transAxes,
        fontsize=8,
    )
