import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptufile import PtuFile

from labctl.errors import DataError, StorageError
from labctl.tags import files
from labctl.tags.stream import Tags

HYDRAHARP = Path(__file__).parents[2] / "../shared/data/hydraharp_t2/v30_t2.ptu"
INT8, FLOAT8 = 0x10000008, 0x20000008


def tag(name: str, kind: int, value: int | float) -> bytes:
    packed = struct.pack("<d" if kind == FLOAT8 else "<q", value)
    return struct.pack("<32siI", name.encode(), -1, kind) + packed


def ptu(
    records: list[int], *, count: int | None = None, mode: int = 2, kind: int = 0x01010204, resolution=1e-12
):
    """A PTU file from the published layout: magic, version, 48-byte tags, 32-bit records."""
    header = b"PQTTTR\0\0" + b"1.0.00\0\0"
    header += tag("Measurement_Mode", INT8, mode) + tag("Measurement_SubMode", INT8, 0)
    header += tag("TTResultFormat_TTTRRecType", INT8, kind) + tag("TTResultFormat_BitsPerRecord", INT8, 32)
    header += tag("MeasDesc_GlobalResolution", FLOAT8, resolution)
    header += tag("TTResult_NumberOfRecords", INT8, len(records) if count is None else count)
    header += tag("Header_End", 0xFFFF0008, 0)
    return header + struct.pack(f"<{len(records)}I", *records)


def photon(channel: int, time: int) -> int:
    return channel << 25 | time


OVERFLOW = 1 << 31 | 63 << 25
SYNC = 1 << 31
MARKER = 1 << 31 | 1 << 25
HEADER_BYTES = len(ptu([]))


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.skipif(not HYDRAHARP.exists(), reason="recorded data ../shared/data/hydraharp_t2 is not here")
def test_a_real_hydraharp_recording():
    found = files.info(HYDRAHARP)
    assert found.records == 435_319
    assert found.photons == {0: 305_565}
    assert found.photon_count == 305_565
    assert found.resolution_ps == 1
    assert found.duration_s == pytest.approx(4.99998, abs=5e-6)
    assert found.first_ps == (24_433_765, 42_010_976, 42_303_858, 65_241_860)
    assert found.mean_rate_hz == pytest.approx(305_565 / found.duration_s)
    assert "T2" in found.format
    tags = files.read(HYDRAHARP)
    assert len(tags) == 305_565
    assert tags.time_ps[:4].tolist() == list(found.first_ps)


@pytest.mark.skipif(not HYDRAHARP.exists(), reason="recorded data ../shared/data/hydraharp_t2 is not here")
def test_a_real_recording_decodes_as_the_record_layout_says():
    records = np.frombuffer(HYDRAHARP.read_bytes()[-4 * 435_319 :], "<u4").astype(np.int64)
    is_overflow = records >> 25 == 127
    time = np.cumsum(np.where(is_overflow, records & 0x1FFFFFF, 0)) * 2**25 + (records & 0x1FFFFFF)
    assert np.array_equal(files.read(HYDRAHARP).time_ps, time[~is_overflow])


@pytest.mark.skipif(not HYDRAHARP.exists(), reason="recorded data ../shared/data/hydraharp_t2 is not here")
def test_a_real_recording_cut_short_is_refused(tmp_path):
    cut = write(tmp_path, "cut.ptu", HYDRAHARP.read_bytes()[:-1001])
    with pytest.raises(
        DataError, match=r"cut\.ptu: at byte \d+: expected 435319 records .* found 1740275 bytes"
    ):
        files.read(cut)


def test_ptu_channels_overflows_markers_and_sync(tmp_path):
    records = [photon(0, 5), photon(3, 9), OVERFLOW | 2, MARKER | 4, photon(0, 1), SYNC | 7]
    path = write(tmp_path, "made.ptu", ptu(records))
    tags = files.read(path)
    assert tags.time_ps.tolist() == [5, 9, 2 * 2**25 + 1, 2 * 2**25 + 7]
    assert tags.channel.tolist() == [0, 3, 0, 255]
    assert files.info(path).photons == {0: 2, 3: 1, 255: 1}
    assert files.info(path).records == 6


def test_ptu_resolution_scales_the_times(tmp_path):
    path = write(tmp_path, "made.ptu", ptu([photon(1, 5)], resolution=25e-12))
    assert files.read(path).time_ps.tolist() == [125]
    assert files.info(path).resolution_ps == 25


def test_ptu_of_a_measurement_that_was_never_closed_is_read_to_its_end(tmp_path):
    path = write(tmp_path, "open.ptu", ptu([photon(0, 5), photon(0, 6)], count=0))
    assert files.info(path).photon_count == 2


def test_ptu_without_records(tmp_path):
    path = write(tmp_path, "empty.ptu", ptu([]))
    assert files.info(path).photon_count == 0
    assert files.info(path).mean_rate_hz == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            ptu([photon(0, 5)] * 3, count=4),
            rf"at byte {HEADER_BYTES + 12}: expected 4 records .* found 12 bytes",
        ),
        (
            ptu([photon(0, 5)] * 3, count=2),
            rf"at byte {HEADER_BYTES + 8}: expected 2 records .* found 12 bytes",
        ),
        (
            ptu([photon(0, 5), photon(0, 4)]),
            rf"at byte {HEADER_BYTES + 4}: expected a time of at least 5 ps, found 4",
        ),
        (ptu([], mode=3, kind=0x01010304), "expected T2"),
        (ptu([], kind=0x77777777), "cannot be read"),
        (ptu([], resolution=0.5e-12), "whole picoseconds"),
        (ptu([])[:100], r"at byte 64: expected the rest of the header .* \(100 bytes\)"),
        (b"PQTTTR\0\0", "expected the rest of the header"),
        (b"PQHISTO\0" + bytes(100), "at byte 0: expected b'PQTTTR.* found b'PQHISTO"),
        (b"", "at byte 0: expected .* found b''"),
    ],
)
def test_damaged_ptu_files_are_refused(tmp_path, content, says):
    path = write(tmp_path, "bad.ptu", content)
    with pytest.raises(DataError, match=says) as caught:
        files.read(path)
    assert str(path) in str(caught.value)


@settings(deadline=None)
@given(st.data())
def test_a_ptu_file_with_any_byte_changed_or_cut_is_read_or_refused(tmp_path_factory, data):
    content = bytearray(ptu([photon(0, 5), photon(3, 9), OVERFLOW | 2, photon(0, 1)]))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    path = write(
        tmp_path_factory.getbasetemp(), "fuzz.ptu", content[: data.draw(st.integers(0, len(content)))]
    )
    try:
        tags = files.read(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(tags) <= 4


sorted_times = st.lists(st.integers(0, 2**63 - 1), max_size=50).map(sorted)


@settings(deadline=None)
@given(sorted_times, st.integers(0, 255))
def test_id900_files_come_back_as_they_were(tmp_path_factory, times, channel):
    path = tmp_path_factory.getbasetemp() / "clicks.bin"
    tags = Tags.on_channel(np.array(times, np.int64), channel)
    files.write_id900(path, tags)
    assert path.read_bytes() == struct.pack(f"<{len(times)}Q", *times)
    assert files.read(path, channel=channel) == tags
    found = files.info(path, channel=channel)
    assert found.records == len(times)
    assert found.photons == ({channel: len(times)} if times else {})
    assert found.first_ps == tuple(times[:4])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=50))
def test_id900_files_with_reference_index_come_back_as_they_were(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "referenced.bin"
    rows = sorted(rows, key=lambda row: row[1])
    since, index = (np.array([row[k] for row in rows], np.int64) for k in (0, 1))
    files.write_id900(path, files.Referenced(since, index))
    assert path.read_bytes() == b"".join(struct.pack("<QQ", *row) for row in rows)
    back = files.read_referenced(path)
    assert back.since_ps.tolist() == since.tolist()
    assert back.index.tolist() == index.tolist()
    assert files.info(path, with_ref_index=True).photon_count == len(rows)


def test_a_reference_clock_gives_absolute_times():
    referenced = files.Referenced(np.array([10, 3], np.int64), np.array([1, 2], np.int64))
    assert referenced.on_clock(100, 7) == Tags.on_channel(np.array([110, 203], np.int64), 7)


def test_id900_duration_and_rate(tmp_path):
    path = write(tmp_path, "clicks.bin", struct.pack("<3Q", 0, 10**12, 2 * 10**12))
    assert files.info(path).duration_s == pytest.approx(2.0)
    assert files.info(path).mean_rate_hz == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (struct.pack("<2Q", 1, 2) + b"abc", "at byte 16: expected a record of 8 bytes, found 3"),
        (struct.pack("<3Q", 1, 9, 8), "at byte 16: expected a time of at least 9 ps, found 8 ps"),
        (struct.pack("<2Q", 1, 2**63), "at byte 8: expected a number below 2\\^63, found 0x8000000000000000"),
    ],
)
def test_damaged_id900_files_are_refused(tmp_path, content, says):
    path = write(tmp_path, "bad.bin", content)
    with pytest.raises(DataError, match=says) as caught:
        files.info(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (struct.pack("<3Q", 1, 1, 2), "at byte 16: expected a record of 16 bytes, found 8"),
        (struct.pack("<4Q", 1, 5, 2, 4), "at byte 24: expected a reference index of at least 5, found 4"),
    ],
)
def test_damaged_id900_files_with_reference_index_are_refused(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        files.read_referenced(write(tmp_path, "bad.bin", content))


def test_id900_files_hold_one_channel_and_no_sign(tmp_path):
    two = Tags(np.array([1, 2], np.int64), np.array([1, 4], np.uint8))
    with pytest.raises(DataError, match="these tags have 1, 4"):
        files.write_id900(tmp_path / "two.bin", two)
    with pytest.raises(DataError, match="index 0 is -1"):
        files.write_id900(tmp_path / "negative.bin", Tags.on_channel(np.array([-1], np.int64), 1))
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused_by_name(tmp_path):
    path = write(tmp_path, "notes.txt", b"dear diary")
    with pytest.raises(DataError, match=r"expected .*PQTTTR.*ID900.* found b'dear dia'"):
        files.info(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        files.info(tmp_path / "nowhere.ptu")


def photons_by_ptufile(path):
    """(times in steps, channels) of the photons, as ptufile alone understands the file."""
    with PtuFile(path) as file:
        decoded = file.decode_records()
        assert not file.is_t3 and file.global_resolution > 0
        assert str(file)
    photon = decoded["channel"] >= 0
    return decoded["time"][photon].tolist(), decoded["channel"][photon].tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), max_size=40), st.data())
def test_ptu_files_come_back_as_they_were(tmp_path_factory, times, data):
    path = tmp_path_factory.getbasetemp() / "made.ptu"
    kinds = data.draw(st.sampled_from([st.integers(0, 63), st.integers(1, 63) | st.just(255)]))
    channels = data.draw(st.lists(kinds, min_size=len(times), max_size=len(times)))
    step = data.draw(st.sampled_from([1, 4, 250]))
    tags = Tags(np.array(sorted(times), np.int64) * step, np.array(channels, np.uint8))
    files.write_ptu(path, tags, resolution_ps=step)
    assert files.read(path) == tags
    found = files.info(path)
    assert found.resolution_ps == step
    assert found.photon_count == len(times)
    assert found.duration_s == pytest.approx(max(times, default=0) * step * 1e-12)
    in_ptufile = [0 if channel == 255 else channel for channel in channels]
    assert photons_by_ptufile(path) == (sorted(times), in_ptufile)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**47), max_size=5))
def test_ptu_times_after_minutes_of_silence(tmp_path_factory, times):
    path = tmp_path_factory.getbasetemp() / "late.ptu"
    tags = Tags.on_channel(np.array(sorted(times), np.int64), 3)
    files.write_ptu(path, tags)
    assert files.read(path) == tags
    assert photons_by_ptufile(path)[0] == sorted(times)


@pytest.mark.parametrize("kind", [0x01010204, 0x00010205, 0x00010206, 0x00010207])
@pytest.mark.parametrize("count", [0, 1, 127, 128, 1000, 2**25 - 1])
def test_ptu_overflows_of_any_count_are_read(tmp_path, kind, count):
    """128 overflows are 2^32 steps: what reckons in 32 bits loses them."""
    path = write(tmp_path, "silence.ptu", ptu([photon(1, 3), OVERFLOW | count, photon(1, 5)], kind=kind))
    assert files.read(path).time_ps.tolist() == [3, max(count, 1) * 2**25 + 5]


def test_ptu_of_an_old_hydraharp_has_overflows_without_a_count(tmp_path):
    path = write(tmp_path, "old.ptu", ptu([OVERFLOW | 2, photon(1, 5)], kind=0x00010204))
    assert files.read(path).time_ps.tolist() == [33_552_000 + 5]


def test_ptu_records_are_those_of_a_hydraharp(tmp_path):
    """Byte for byte: no overflow at 2^25 - 1, one at 2^25, a count in one record, several records for more than 127."""
    path = tmp_path / "made.ptu"
    turn = 2**25
    times = [0, turn - 1, turn, 7 * turn + 5, (7 + 255) * turn + 6]
    channels = [2, 63, 2, 255, 1]
    files.write_ptu(path, Tags(np.array(times, np.int64), np.array(channels, np.uint8)))
    expected = [
        photon(2, 0),
        photon(63, turn - 1),
        OVERFLOW | 1,
        photon(2, 0),
        OVERFLOW | 6,
        SYNC | 5,
        OVERFLOW | 127,
        OVERFLOW | 127,
        OVERFLOW | 1,
        photon(1, 6),
    ]
    content = path.read_bytes()
    assert struct.unpack(f"<{len(expected)}I", content[-4 * len(expected) :]) == tuple(expected)
    assert content.startswith(b"PQTTTR\0\0" + b"1.0.00\0\0")
    for name, kind, value in (
        ("Measurement_Mode", INT8, 2),
        ("TTResultFormat_TTTRRecType", INT8, 0x01010204),
        ("TTResultFormat_BitsPerRecord", INT8, 32),
        ("MeasDesc_GlobalResolution", FLOAT8, 1e-12),
        ("TTResult_NumberOfRecords", INT8, len(expected)),
    ):
        assert tag(name, kind, value) in content
    assert content[-4 * len(expected) - 48 :].startswith(b"Header_End\0")
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(not HYDRAHARP.exists(), reason="recorded data ../shared/data/hydraharp_t2 is not here")
def test_a_real_recording_written_again_has_the_same_records(tmp_path):
    """The instrument merges its overflows as we do, save those after its last photon."""
    tags = files.read(HYDRAHARP)
    path = tmp_path / "again.ptu"
    files.write_ptu(path, tags)
    assert files.read(path) == tags
    real = np.frombuffer(HYDRAHARP.read_bytes()[-4 * 435_319 :], "<u4")
    real = real[: int(np.flatnonzero(real >> 31 == 0)[-1]) + 1]
    found = np.frombuffer(path.read_bytes()[-4 * files.info(path).records :], "<u4")
    is_overflow = real >> 25 == 127
    assert np.array_equal(found[found >> 25 != 127], real[~is_overflow])
    assert (found[found >> 25 == 127] & 0x1FFFFFF).sum() == (real[is_overflow] & 0x1FFFFFF).sum()


def test_many_ptu_tags(tmp_path):
    rng = np.random.default_rng(5)
    time = np.cumsum(rng.integers(0, 2**27, 200_000))
    tags = Tags(time, rng.integers(0, 4, time.size).astype(np.uint8))
    path = tmp_path / "many.ptu"
    files.write_ptu(path, tags)
    assert files.read(path) == tags
    times, channels = photons_by_ptufile(path)
    assert times == time.tolist() and channels == tags.channel.tolist()


@pytest.mark.parametrize(
    ("times", "channels", "step", "says"),
    [
        ([-1, 5], [1, 1], 1, r"begins at time 0, the first of these tags is at -1 ps"),
        ([4, 8, 13], [1, 1, 1], 4, r"index 2 is at 13 ps, which is no multiple of the file's 4 ps"),
        ([1, 2], [1, 64], 1, r"channels 0 to 63 and 255 for SYNC, these tags have 64"),
        ([1, 2], [0, 255], 1, r"channel 0 and SYNC \(255\) in one file"),
        ([1], [1], 0, r"a resolution of 0 ps; expected at least 1 ps"),
        (
            [2**63 - 1],
            [1],
            1,
            r"2164392969 records would be needed to count from time 0 .* take off an origin",
        ),
    ],
)
def test_what_a_ptu_file_cannot_hold_is_refused(tmp_path, times, channels, step, says):
    path = tmp_path / "bad.ptu"
    with pytest.raises(DataError, match=says) as caught:
        files.write_ptu(
            path, Tags(np.array(times, np.int64), np.array(channels, np.uint8)), resolution_ps=step
        )
    assert str(path) in str(caught.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["clicks.ptu", "clicks.bin"])
def test_a_file_that_cannot_be_written_leaves_the_old_one_as_it_was(tmp_path, name, monkeypatch):
    write_to = files.write_ptu if name.endswith("ptu") else files.write_id900
    path = tmp_path / name
    old, new = (Tags.on_channel(np.arange(count, dtype=np.int64), 1) for count in (3, 30))
    write_to(path, old)
    before = path.read_bytes()

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match=f"{name}: cannot be written: No space left"):
        write_to(path, new)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    with pytest.raises(StorageError, match="No such file or directory"):
        write_to(tmp_path / "nowhere" / name, new)
