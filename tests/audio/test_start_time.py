"""Starts of recordings out of names and tables: the right one or none."""

import struct
from datetime import UTC, datetime, timedelta, timezone

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from refused import refused

from rfcx_tf.audio.start_time import read_start_times, recording_start, start_from_name

HALF_PAST_FIVE = datetime(2023, 4, 1, 5, 30)
EAST_2 = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("20230401_053000.WAV", HALF_PAST_FIVE),
        ("20230401_053000T.WAV", HALF_PAST_FIVE),
        ("/data/plot 7/20230401_053000.wav", HALF_PAST_FIVE),
        ("C:\\data\\20230401_053000.wav", HALF_PAST_FIVE),
        ("20230401_053000", HALF_PAST_FIVE),
        # `date -u -d @1529757456`: the name is 1529757456 = 0x5B2E3F10 seconds.
        ("5B2E3F10.WAV", datetime(2018, 6, 23, 12, 37, 36, tzinfo=UTC)),
        ("SITE1_20230401_053000.wav", HALF_PAST_FIVE),
        ("SMA00351_20230401_053000.flac", HALF_PAST_FIVE),
        ("ARIZONA-1_0+1_20230401$053000.wav", HALF_PAST_FIVE),
        ("24680135_20230401_053000.wav", HALF_PAST_FIVE),
        ("site.a_20230401_053000.wav", HALF_PAST_FIVE),
        ("20230401_053000_123456.wav", HALF_PAST_FIVE),
        ("20230401_053000+0200.wav", HALF_PAST_FIVE.replace(tzinfo=EAST_2)),
        ("20230401T053000+02:00_REC.flac", HALF_PAST_FIVE.replace(tzinfo=EAST_2)),
        (
            "SITE1_20230401_053000-0330.wav",
            HALF_PAST_FIVE.replace(tzinfo=timezone(-timedelta(hours=3, minutes=30))),
        ),
        ("PER_021_S10_20230401_053000Z_18.flac", HALF_PAST_FIVE.replace(tzinfo=UTC)),
        ("2023-04-01_05-30-00.wav", HALF_PAST_FIVE),
        ("site 3 2023-04-01 05.30.00.wav", HALF_PAST_FIVE),
        ("REC_2023_04_01_05_30_00.wav", HALF_PAST_FIVE),
        ("2023-04-01T05:30:00Z.wav", HALF_PAST_FIVE.replace(tzinfo=UTC)),
        ("20230401-053000.wav", HALF_PAST_FIVE),
        # A space for the leading zero of the day, of the month.
        ("202304 1T053000+0200_REC.wav", HALF_PAST_FIVE.replace(tzinfo=EAST_2)),
        ("2023 4 1_053000.wav", HALF_PAST_FIVE),
    ],
)
def test_names_that_recorders_give(name, start):
    found = start_from_name(name)
    assert found == start
    assert found.utcoffset() == start.utcoffset()


@pytest.mark.parametrize(
    "name",
    [
        "20230229_053000.wav",  # no leap year
        "20231301_053000.wav",
        "20230401_246000.wav",
        "00230401_053000.wav",
        "20230401.wav",
        "120230401_053000.wav",
        "20230401_0530001.wav",
        "x20230401_053000.wav",
        "20230401_053000-9999.wav",  # no zone, so perhaps no time either
        "20230401_053000_20230401_063000.wav",  # which of the two?
        "003bec244.flac",  # 9 digits, as in the competition
        "5b2e3f10.flac",  # small letters: drawn at random
        "5B2E3F1.WAV",
        "5B2E3F100.WAV",
        "SITE_5B2E3F10.WAV",
        "10160435.wav",  # 1978
        "FFFFFFFF.WAV",  # 2106
        "60012345.wav",  # a serial number rather than a time of 2021
        "2023-0401_053000.wav",  # half a sign
        "2023-04-31_05-30-00.wav",
        "tiny00.flac",
        "",
    ],
)
def test_other_names_have_no_time(name):
    assert start_from_name(name) is None


@given(st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)), st.integers(-56, 56))
def test_any_time_comes_back(start, quarters):
    zone = timezone(timedelta(minutes=15 * quarters))
    start = start.replace(microsecond=0)
    assert start_from_name(f"A1_{start:%Y%m%d_%H%M%S}.wav") == start
    with_zone = start.replace(tzinfo=zone)
    assert start_from_name(f"A1_{with_zone:%Y%m%d_%H%M%S%z}.wav") == with_zone


@given(st.integers(0, 21001400), st.integers(0, 250000))
def test_digits_are_a_time_only_if_the_calendar_has_it(date, time):
    digits = f"{date:08}_{time:06}"
    try:
        expected = datetime.strptime(digits, "%Y%m%d_%H%M%S")
    except ValueError:
        expected = None
    if expected and not 1990 <= expected.year < 2100:
        expected = None
    assert start_from_name(f"{digits}.wav") == expected


@given(st.text("0123456789ABCDEFabcdef", min_size=1, max_size=12))
def test_hexadecimal_is_eight_digits_of_a_plausible_year(digits):
    start = start_from_name(f"{digits}.WAV")
    if start is not None:
        assert len(digits) == 8 and digits == digits.upper()
        assert start.timestamp() == int(digits, 16)
        assert 2015 <= start.year <= 2037


def test_a_table_goes_before_the_name(tmp_path):
    path = tmp_path / "starts.csv"
    path.write_text(
        "file,site,start_time\n"
        "D:\\card1\\a.WAV,x,2023-04-01T05:30:00+02:00\n"
        "card2/20230401_053000.wav,x,2022-01-02 03:04:05\n"
        "card2/20230401_053000.wav,x,2022-01-02 03:04:05\n"
    )
    known = read_start_times(path)
    name, file = "20230401_053000", "x/20230401_053000.flac"
    assert recording_start("a", "x/a.wav", known) == HALF_PAST_FIVE.replace(tzinfo=EAST_2)
    assert recording_start(name, file, known) == datetime(2022, 1, 2, 3, 4, 5)
    assert recording_start(name, file, {}) == HALF_PAST_FIVE
    assert recording_start("b", "x/b.flac", known) is None
    path.write_text("recording_id,start_time\nsite.1,2023-04-01T05:30:00Z\n")
    assert read_start_times(path) == {"site.1": HALF_PAST_FIVE.replace(tzinfo=UTC)}


def test_recordings_of_one_name_begin_when_their_paths_say(tmp_path):
    path = tmp_path / "starts.csv"
    path.write_text(
        "file,start_time\n"
        "site1/a.WAV,2023-04-01T01:00\n"
        "D:\\field\\site2\\a.WAV,2023-04-01T02:00\n"
        "/field/site2/20230401_053000.WAV,2023-04-01T03:00\n"
    )
    known = read_start_times(path)

    def hour(recording_id, file):
        start = recording_start(recording_id, file, known)
        return start and start.hour

    assert hour("site1/a", "/x/site1/a.WAV") == 1
    assert hour("site2/a", "/x/site2/a.WAV") == 2
    # By its name alone it may be either, but the file says which.
    assert hour("a", "site2/a.WAV") == 2
    assert hour("a", "elsewhere/a.WAV") is None
    assert hour("site1/20230401_053000", "site1/20230401_053000.WAV") == 5
    assert hour("20230401_053000", "elsewhere/20230401_053000.WAV") == 3
    path.write_text("recording_id,start_time\na,2023-04-01T01:00\nsite2/a,2023-04-01T02:00\n")
    known = read_start_times(path)
    assert [hour(name, f"{name}.WAV") for name in ("a", "site1/a", "site2/a")] == [1, None, 2]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("recording_id\na\n", ":1: the header must name start_time"),
        ("recording_id,start_time\na,\n", ":2: start_time must be"),
        ("recording_id,start_time\na,2023-04-01\n", ":2: start_time must be"),
        ("recording_id,start_time\na,yesterday 5\n", ":2: start_time must be"),
        ("recording_id,start_time\n,2023-04-01T05:30\n", ":2: a row must have"),
        ("start_time\n2023-04-01T05:30\n", ":2: a row must have"),
        (
            "recording_id,start_time\na,2023-04-01T05:30\na,2023-04-01T05:30Z\n",
            ":3: a recording must begin once",
        ),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, table, complaint):
    path = tmp_path / "starts.csv"
    path.write_text(table)
    assert f"{path}{complaint}" in refused(read_start_times, path)


def test_files_of_a_table_are_found_in_any_unicode_form(tmp_path):
    table = tmp_path / "starts.csv"
    table.write_text("file,start_time\nGr\u00fcn.wav,2023-04-01T05:30:00\n")
    known = read_start_times(table)
    assert recording_start("Gr\u00fcn", "Gru\u0308n.wav", known) == datetime(2023, 4, 1, 5, 30)


AUDIOMOTH = (
    b"Recorded at 05:30:00 01/04/2023 (UTC%s) by AudioMoth 24F31900603EC0D1 at medium gain while "
    b"battery was 4.2V and temperature was 20.1C."
)


def write_sound(path, *, comment=b"", guano=b"", behind=True):
    """A WAV of 100 samples, its chunks by hand: LIST before the samples, guan behind or before."""

    def chunk(name, content):
        padded = content + b"\0" * (len(content) % 2)
        return name + struct.pack("<I", len(content)) + padded

    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
    info = chunk(b"LIST", b"INFO" + chunk(b"ICMT", comment + b"\0")) if comment else b""
    guan = chunk(b"guan", b"GUANO|Version: 1.0\nMake: X\n" + guano) if guano else b""
    body = b"WAVE" + fmt + info + guan * (not behind) + chunk(b"data", bytes(200)) + guan * behind
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("offset", "zone"),
    [
        (b"", UTC),
        (b"+2", EAST_2),
        (b"-3:30", timezone(-timedelta(hours=3, minutes=30))),
        (b"+05:45", timezone(timedelta(hours=5, minutes=45))),
    ],
)
def test_audiomoths_comment_goes_before_the_name(tmp_path, offset, zone):
    path = write_sound(tmp_path / "20220101_000000.WAV", comment=AUDIOMOTH % offset)
    found = recording_start("20220101_000000", path, {})
    assert found == HALF_PAST_FIVE.replace(tzinfo=zone)
    assert found.utcoffset() == zone.utcoffset(None)
    # A table knows better, such as of a clock that was set wrong.
    assert recording_start("a", path, {"a": HALF_PAST_FIVE}) == HALF_PAST_FIVE


def test_the_comment_of_a_converted_file(tmp_path):
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 8000, 1) as sound:
        sound.comment = (AUDIOMOTH % b"+2").decode()
        sound.write([0.0] * 100)
    assert recording_start("a", path, {}) == HALF_PAST_FIVE.replace(tzinfo=EAST_2)


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize(
    ("text", "start"),
    [
        (b"Timestamp: 2023-04-01T05:30:00+02:00", HALF_PAST_FIVE.replace(tzinfo=EAST_2)),
        (b"Timestamp:2023-04-01T05:30:00Z\nTE: 1", HALF_PAST_FIVE.replace(tzinfo=UTC)),
        (b"Loc Position: 1 2\r\nTimestamp: 2023-04-01 05:30:00\r\n", HALF_PAST_FIVE),
    ],
)
def test_guano_goes_before_comment_and_name(tmp_path, text, start, behind):
    comment = b"Recorded at 01:00:00 01/01/2020 (UTC)"
    path = write_sound(tmp_path / "20220101_000000.WAV", comment=comment, guano=text, behind=behind)
    found = recording_start("20220101_000000", path, {})
    assert found == start and found.utcoffset() == start.utcoffset()


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"comment": b"Recorded at 00:00:00 01/01/1970 (UTC)"},
        {"comment": b"Recorded at 25:00:00 41/01/2020 (UTC)"},
        {"guano": b"Timestamp: yesterday"},
        {"guano": b"Original Timestamp: 2020-01-01T00:00:00"},
    ],
)
def test_a_file_that_says_no_time_leaves_its_name(tmp_path, said):
    path = write_sound(tmp_path / "20230401_053000.WAV", **said)
    assert recording_start("20230401_053000", path, {}) == HALF_PAST_FIVE
