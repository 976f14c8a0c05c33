import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import DataError
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
