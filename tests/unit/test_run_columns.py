"""Records as growing columns: the same values as the records themselves, in a fraction of the memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import DataError
from labctl.run import columns
from labctl.run.columns import CHUNK, Columns, of_rows
from labctl.run.journal import Journal
from labctl.run.results import results
from labctl.run.table import Table
from sequences.link import link

NAMES = ("a", "b", "c")
KINDS = {
    "a": st.integers(-(2**62), 2**62),
    "b": st.floats(allow_nan=False) | st.integers(-5, 5),
    "c": st.sampled_from(["psi_plus", "psi_minus", "timeout"]),
}


@given(st.lists(st.fixed_dictionaries({}, optional=KINDS), max_size=30), st.integers(1, 7))
def test_columns_hold_what_the_records_held(rows, chunk):
    made = [(number, number * 1000, values) for number, values in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns, "CHUNK", chunk)
        table = of_rows(made)
    plain = Table(made)
    assert len(table) == len(plain)
    np.testing.assert_array_equal(table.time_s, plain.time_s)
    assert table.number.tolist() == list(range(len(rows)))
    assert table.last_ps == (made[-1][1] if made else 0)
    for name in NAMES:
        everywhere = bool(rows) and all(name in values for values in rows)
        assert table.has(name) == everywhere
        if everywhere:
            assert table.column(name).tolist() == pytest.approx(plain.column(name).tolist(), abs=0)
        else:
            with pytest.raises(DataError):
                table.column(name)
    pieces = [value for _, values in table.pieces(["c"]) for value in values["c"]]
    assert pieces == [values.get("c") for values in rows]


def test_a_text_after_numbers_makes_the_column_texts():
    table = Columns()
    for number in range(CHUNK + 5):
        table.append(number, number, {"v": 7 if number < CHUNK else "seven"})
    found = table.column("v")
    assert found[0] == "7" and found[-1] == "seven" and table.has("v")


def rounds(count: int):
    rng = np.random.default_rng(1)
    for number in range(count):
        yield (
            number,
            int(number * 3.4e12),
            {
                "outcome": ("psi_plus", "psi_minus")[int(rng.integers(2))],
                "attempts": int(rng.geometric(1e-4)),
                "phase_sigma_rad": float(rng.uniform(0.1, 0.2)),
                "counts_a": int(rng.poisson(20)),
                "bright_a": int(rng.integers(2)),
                "bright_b": int(rng.integers(2)),
                "setting_a": int(rng.integers(2)),
                "setting_b": int(rng.integers(3)),
            },
        )


def test_a_long_run_is_a_few_bytes_a_record_and_has_the_same_figures():
    rows = list(rounds(3 * CHUNK))
    table = of_rows(rows)
    arguments = link(measure="bell").arguments
    assert results("heralded_pair", table, arguments) == results("heralded_pair", rows, arguments)
    del rows
    tracemalloc.start()
    kept = of_rows(rounds(4 * CHUNK))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 4 * CHUNK and size / len(kept) < 60


def test_a_journal_is_read_as_it_goes(tmp_path: Path):
    writing = Journal.create(tmp_path / "journal", {"rounds": 9})
    writing.extend(rounds(9))
    writing.note({"paused": "laser"})
    writing.close("complete", time_ps=12)
    table, content = columns.read(tmp_path / "journal")
    assert len(table) == content.count == 9 and not content.records
    assert content.header == {"rounds": 9} and content.notes == [{"paused": "laser"}]
    assert content.end is not None and content.end["time_ps"] == 12
