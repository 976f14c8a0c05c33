"""Time tags of a run: kept around every herald, on disk before the record, and the heralds found again in them."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from run_parts import runner
from world_lab import FLIGHT, laboratory

from labctl.core.session import CoreSession, TagsMessage, decode, encode
from labctl.core.sim import SimCore
from labctl.errors import DataError, StorageError
from labctl.run import columns, journal
from labctl.run.runner import Outcome
from labctl.run.tag_check import check
from labctl.schedule.items import Attempt, Every, Report, Schedule, Series
from labctl.tags import again, recording
from labctl.tags.recording import Stretch, TagWriter
from labctl.units import ms, us
from sequences.link import attempt, cooling, link

ROUNDS = 60


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    world = laboratory(11)
    core = CoreSession(SimCore(world, world.lock, world.rng("core")))
    return runner(tmp_path_factory.mktemp("runs"), core, seed=11).run(link(), ROUNDS)


def rows(outcome: Outcome) -> list[dict[str, object]]:
    return [row for batch in recording.batches(outcome.folder / "tags") for row in batch.to_pylist()]


def test_the_heralds_in_the_tags_are_those_of_the_records(taken: Outcome):
    said = json.loads((taken.folder / "run.json").read_text())["tags"]
    assert said["recorded"] == said["found"] == said["agree"] == ROUNDS
    assert said["text"] == f"heralds found in the tags: {ROUNDS} of {ROUNDS}"
    assert taken.tags == said["text"] and said["text"] in (taken.folder / "report.html").read_text()


def test_every_stretch_has_its_herald_the_attempts_before_and_the_reference(taken: Outcome):
    for row, (number, _, values) in zip(rows(taken), journal.rows(taken.folder / "journal"), strict=True):
        times, channels = np.array(row["time_ps"]), np.array(row["channel"])
        assert row["record"] == number and (np.diff(times) >= 0).all()
        assert times[0] >= row["since_ps"] and times[-1] < row["until_ps"]
        detector = int(values["outcome"] == "psi_minus")
        markers = times[channels == row["marker"]]
        click = markers[-1] + row["after_ps"] + values[f"click_{detector}_ps"]
        assert click in times[channels == detector]
        assert row["until_ps"] - row["since_ps"] <= 2 * ms and click - row["since_ps"] <= 1 * ms
        early = int(values["attempts"]) > 4  # then the millisecond before has attempts of this round only
        assert not early or (2 <= len(markers) <= 4 and (np.diff(markers) == 375 * us).all())
        reference = np.array(row["block_clicks"]).reshape(-1, row["block_gates"])
        assert reference.shape[1] == 4 and (not early or reference.shape[0] > 4)
        assert reference[-1].sum() == values["reference_clicks"]
        block = (times > markers[-1] - 260 * us) & (times < markers[-1])  # the last reference slot
        assert abs(int(block.sum()) - int(values["reference_clicks"])) <= 1  # one click of background at most


def test_attempts_that_clicked_and_went_on_are_no_heralds():
    world = laboratory(5, {"alice.objective_collection": 0.4, "bob.objective_collection": 0.4})
    item = Attempt(
        attempt(0.5, FLIGHT, 60_000, 4_000),
        ("click_0", "click_1"),
        {"00": "again", "10": "again", "01": "minus", "11": "again"},
        10**7,
        Every(3, cooling(FLIGHT, 0.99, 15.0)),
    )
    columns = {"outcome": "herald", "c0": "click_0.first_ps", "c1": "click_1.first_ps"}
    schedule = Schedule("odd", Series((item, Report(columns))))
    made: list[TagsMessage] = []
    session = CoreSession(SimCore(world, world.lock, world.rng("core")))
    session.start(schedule, 150)
    for batch in session.batches():
        made += [one for one in batch if isinstance(one, TagsMessage)]
    assert len(made) == 150 and decode(encode(made[0])) == made[0]
    gates = heralds = others = 0
    for one in made:
        times, channels = np.frombuffer(one.times_ps, "<i8"), np.frombuffer(one.channels, "u1")
        for marker in times[channels == 2]:
            inside = (times >= marker + one.layout.after_ps) & (times < marker + one.layout.after_ps + 60_000)
            clicked = set(channels[inside].tolist())
            gates, heralds, others = (
                gates + 1,
                heralds + (clicked == {1}),
                others + (0 in clicked),
            )
    assert heralds == 150 and others > 1 and gates > 600


def stretch(record: int, times: list[int], channels: list[int], loop: str = "herald") -> Stretch:
    since = times[0] // 1000 * 1000
    return Stretch(
        record,
        loop,
        since,
        since + 1000,
        2,
        (0, 1),
        100,
        50,
        np.array(times, np.int64),
        np.array(channels, np.uint8),
        np.zeros((2, 4), np.uint16),
    )


OUTCOMES = {"herald": {"10": "plus", "01": "minus"}}


def test_what_is_written_is_read_and_searched(tmp_path: Path):
    writer = TagWriter(tmp_path / "tags")
    writer.write([stretch(0, [10, 70, 130], [2, 2, 0]), stretch(1, [1010, 1120], [2, 1])])
    writer.write([])
    writer.write([stretch(2, [2010, 2120, 2130], [2, 1, 0]), stretch(3, [3010, 3090], [2, 1])])
    writer.close()
    found = list(again.find(tmp_path / "tags", {"herald": {**OUTCOMES["herald"], "11": "again"}}))
    assert [(one.record, one.outcome, one.first_ps) for one in found] == [
        (0, "plus", (20, -1)),
        (1, "minus", (-1, 10)),
    ]  # both detectors, and a click before its gate, are no heralds
    assert recording.publish(tmp_path / "tags", tmp_path / "tags.parquet") == 10
    table = pq.read_table(tmp_path / "tags.parquet")
    assert table.column("time_ps").to_pylist()[-2:] == [3010, 3090]
    assert table.column("record").to_pylist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_a_torn_block_is_dropped_and_a_damaged_one_refused(tmp_path: Path):
    writer = TagWriter(tmp_path / "tags")
    for record in range(3):
        writer.write([stretch(record, [record * 1000 + 10, record * 1000 + 120], [2, 0])])
    path = tmp_path / "tags" / "000000.arrows"
    whole = path.read_bytes()
    writer.close()
    records = []
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[: len(whole) - cut])
        records.append(sum(batch.num_rows for batch in recording.batches(tmp_path / "tags")))
    assert records == sorted(records, reverse=True) and records[0] == 3 and records[-1] == 0
    place = whole.rindex(np.int64(2120).tobytes())
    path.write_bytes(whole[:place] + np.int64(2121).tobytes() + whole[place + 8 :])
    with pytest.raises(DataError, match="block 2 is damaged"):
        list(recording.batches(tmp_path / "tags"))


def test_a_resumed_run_replaces_what_its_journal_never_had(tmp_path: Path):
    for first, last in (
        (0, 5),
        (3, 6),
    ):  # tags of records 3 and 4 were on disk when the process died, the records not
        writer = TagWriter(tmp_path / "tags")
        for record in range(first, last):
            writer.write([stretch(record, [record * 1000 + 10, record * 1000 + 120], [2, first % 2])])
        writer.close()
    batches = list(recording.batches(tmp_path / "tags"))
    assert [batch.column("record")[0].as_py() for batch in batches] == list(range(6))
    found = list(again.find(tmp_path / "tags", OUTCOMES))
    assert [one.outcome for one in found] == ["plus"] * 3 + ["minus"] * 3


def test_a_tag_that_is_not_where_the_record_says_is_noticed(taken: Outcome, tmp_path: Path):
    (tmp_path / "journal").write_bytes((taken.folder / "journal").read_bytes())
    writer = TagWriter(tmp_path / "tags")
    for row in rows(taken):
        times, channels = np.array(row["time_ps"], np.int64), np.array(row["channel"], np.uint8)
        markers = times[channels == 2]
        herald = times > markers[-1]
        if row["record"] == 7:
            channels[herald & (channels < 2)] ^= 1  # the other detector
        if row["record"] == 8:
            times, channels = times[~herald], channels[~herald]
        if row["record"] == 9:
            times[herald] += 1
        kept = {key: row[key] for key in ("record", "loop", "since_ps", "until_ps", "marker")}
        writer.write(
            [
                Stretch(
                    **kept,
                    detectors=tuple(row["detectors"]),
                    after_ps=row["after_ps"],
                    window_ps=row["window_ps"],
                    time_ps=times,
                    channel=channels,
                    block_clicks=np.zeros((0, 4), np.uint16),
                )
            ]
        )
    writer.close()
    found = check(tmp_path, link(), columns.read(tmp_path / "journal")[0])
    assert found is not None and (found.recorded, found.found, found.agree) == (
        ROUNDS,
        ROUNDS - 1,
        ROUNDS - 3,
    )
    assert found.text == f"heralds found in the tags: {ROUNDS - 1} of {ROUNDS}; only {ROUNDS - 3} agree"


def test_a_disk_that_takes_no_tags_ends_the_run(tmp_path: Path):
    (tmp_path / "tags").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write time tags"):
        TagWriter(tmp_path / "tags").write([stretch(0, [10], [2])])


def test_the_published_file_does_not_tell_how_the_tags_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "ROW_GROUP", 20)
    every = [stretch(n, [n * 1000 + 10, n * 1000 + 120], [2, 0]) for n in range(50)]
    made: list[bytes] = []
    for size in (1, 7, 9):
        writer = TagWriter(tmp_path / f"{size}")
        for first in range(0, 50, size):
            writer.write(every[first : first + size])
        writer.close()
        assert recording.publish(tmp_path / f"{size}", tmp_path / f"{size}.parquet") == 100
        made.append((tmp_path / f"{size}.parquet").read_bytes())
        assert pq.read_metadata(tmp_path / f"{size}.parquet").num_row_groups == 5
    assert made[0] == made[1] == made[2]
