"""The journal survives anything: torn tails, kill -9 at any instant, a full disk."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import DataError, StorageError
from labctl.run import journal
from labctl.run.journal import Journal

VALUES = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=12),
    max_size=5,
)


@given(st.lists(VALUES, max_size=8), st.integers(0, 400))
def test_a_torn_tail_costs_only_the_last_record(tmp_path_factory, rows, cut):
    path = tmp_path_factory.mktemp("j") / "journal"
    with_header = Journal.create(path, {"sequence": "link"})
    ends = [path.stat().st_size]
    for number, values in enumerate(rows):
        with_header.append(number, number * 7, values)
        ends.append(path.stat().st_size)
    with_header.close()
    length = max(ends[0], path.stat().st_size - cut)
    os.truncate(path, length)
    whole = sum(1 for end in ends[1:] if end <= length)
    content = journal.read(path)
    assert content.records == [(n, n * 7, rows[n]) for n in range(whole)]
    assert content.good_bytes == ends[whole] and content.torn_bytes == length - ends[whole]
    again, _ = Journal.resume(path)
    again.append(whole, 99, {"x": 1})
    again.close("complete")
    assert [n for n, _, _ in journal.read(path).records] == list(range(whole + 1))


def test_a_flipped_byte_is_noticed(tmp_path: Path):
    made = Journal.create(tmp_path / "journal", {})
    made.append(0, 0, {"a": 1})
    size = (tmp_path / "journal").stat().st_size
    made.append(1, 0, {"a": 2})
    made.close()
    data = bytearray((tmp_path / "journal").read_bytes())
    data[size + 12] ^= 1
    (tmp_path / "journal").write_bytes(data)
    assert len(journal.read(tmp_path / "journal").records) == 1


def test_zeros_that_a_power_cut_left_are_a_torn_tail(tmp_path: Path):
    path = tmp_path / "journal"
    made = Journal.create(path, {"rounds": 3})
    made.append(0, 0, {"a": 1})
    made.close()
    whole = path.stat().st_size
    os.truncate(path, whole + 4096)
    content = journal.read(path)
    assert len(content.records) == 1 and content.good_bytes == whole and content.torn_bytes == 4096


def test_what_is_cut_off_on_resuming_is_kept_beside_it(tmp_path: Path):
    path = tmp_path / "journal"
    made = Journal.create(path, {})
    ends = [path.stat().st_size]
    for number in range(4):
        made.append(number, 0, {"a": number})
        ends.append(path.stat().st_size)
    made.close()
    data = bytearray(path.read_bytes())
    data[ends[2] + 12] ^= 1  # the third record; the fourth is whole, but nobody can know where it begins
    path.write_bytes(data)
    again, content = Journal.resume(path)
    again.close()
    assert content.count == 2 and path.read_bytes() == data[: ends[2]]
    assert (tmp_path / f"journal.torn-{ends[2]}").read_bytes() == data[ends[2] :]


def test_records_must_come_in_order(tmp_path: Path):
    made = Journal.create(tmp_path / "journal", {})
    with pytest.raises(StorageError, match="record 1 came where 0 was expected"):
        made.append(1, 0, {})
    made.close()


def test_a_complete_run_is_not_resumed_and_other_files_are_refused(tmp_path: Path):
    Journal.create(tmp_path / "journal", {}).close("complete")
    with pytest.raises(StorageError, match="complete"):
        Journal.resume(tmp_path / "journal")
    (tmp_path / "other").write_bytes(b"hello")
    with pytest.raises(DataError, match="not a labctl journal"):
        journal.read(tmp_path / "other")


WRITER = """
import sys
from pathlib import Path
from labctl.run.journal import Journal
j = Journal.create(Path(sys.argv[1]), {"sequence": "x"})
n = 0
while True:
    j.append(n, n, {"value": n, "text": "x" * (n % 50)})
    n += 1
    print(n, flush=True)
"""


@pytest.mark.parametrize("attempt", range(6))
def test_kill_at_any_instant_loses_nothing_acknowledged(tmp_path: Path, attempt: int):
    path = tmp_path / "journal"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = 0
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= 40 + 37 * attempt:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = max([acknowledged, *(int(x) for x in process.stdout.read().split("\n")[:-1])])
    records = journal.read(path).records
    assert [n for n, _, _ in records] == list(range(len(records)))
    assert acknowledged <= len(records) <= acknowledged + 1


FILLER = """
import resource, signal, sys
from pathlib import Path
from labctl.errors import StorageError
from labctl.run.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
j = Journal.create(Path(sys.argv[1]), {})
n = 0
try:
    while True:
        j.append(n, n, {"text": "y" * 100})
        n += 1
except StorageError as error:
    print(n, error)
"""


def test_a_full_disk_is_one_line_and_keeps_what_was_taken(tmp_path: Path):
    path = tmp_path / "journal"
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(path)], capture_output=True, text=True, check=True
    )
    count, text = done.stdout.split(" ", 1)
    assert f"{count} records are safe" in text and "\n" not in text.strip()
    content = journal.read(path)
    assert len(content.records) == int(count) and content.torn_bytes == 0


def test_records_written_together_are_all_there_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    syncs: list[int] = []
    true_sync = os.fdatasync

    def sync(file: int) -> None:
        syncs.append(file)
        if len(syncs) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        true_sync(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    writing = Journal.create(tmp_path / "journal", {})
    rows = [(n, n * 10, {"n": n}) for n in range(30)]
    writing.extend(rows[:10])
    with pytest.raises(StorageError, match="10 records are safe"):
        writing.extend(rows[10:20])
    assert writing.next_record == 10
    writing.extend(rows[10:25])
    assert len(syncs) == 4
    with pytest.raises(StorageError, match="record 27 came where 26 was expected"):
        writing.extend([rows[25], rows[27]])
    writing.extend([])
    writing.close()
    assert journal.read(tmp_path / "journal").records == rows[:26]
