"""Which files are recordings, and what they are called: by name, by path, or as a table does."""

import numpy as np
import pytest
import soundfile
from refused import refused

from rfcx_tf.audio.decode import read_audio
from rfcx_tf.audio.find import (
    find_named_recordings,
    find_recordings,
    folder_recordings,
    misnamed_recordings,
    path_for_recording,
)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def two_sites(tmp_path):
    """Two recordings of one name at two sites, and one of its own name, by their paths."""
    names = ("site1/20210101_050000", "site1/deep/b.c", "site2/20210101_050000")
    return {name: touch(tmp_path / "field" / f"{name}.WAV") for name in names}


def test_find_recordings_in_folders_and_files(tmp_path, monkeypatch):
    day = tmp_path / "day"
    inside = [touch(day / name) for name in ("b.FLAC", "a.wav", "sub/d.Mp3", "sub/c.ogg")]
    for name in ("notes.txt", "._b.flac", "sub/flac"):
        touch(day / name)
    (day / "folder.wav").mkdir()
    single = touch(tmp_path / "z.wav")
    found = find_recordings([single, day, day / "a.wav"])
    assert list(found.values()) == sorted([*inside, single])
    assert list(found) == ["a", "b", "c", "d", "z"]
    monkeypatch.chdir(day)
    assert len(find_recordings([day, "a.wav"])) == len(inside)


def test_sound_under_another_name_is_found(tmp_path):
    """A FLAC named .wav is read for what it is; one named .txt would be passed over."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 1000)

    def write(path, **kwargs):
        soundfile.write(path, sound, 48000, **kwargs)
        return path

    as_wav = write(tmp_path / "a.wav", format="FLAC")
    assert len(read_audio(as_wav, 48000)) == 1000
    folder = tmp_path / "day"
    folder.mkdir()
    named_txt = write(folder / "b.txt", format="FLAC")
    others = [write(folder / f"c{i}", format=f) for i, f in enumerate(["WAV", "OGG"])]
    for name, content in (("CONFIG.TXT", b"Device ID"), ("empty", b""), (".d", b"fLaC")):
        (folder / name).write_bytes(content)
    write(folder / "e.WAV")
    assert misnamed_recordings([tmp_path]) == [named_txt, *others]
    assert misnamed_recordings([folder / "e.WAV", as_wav]) == []


def test_find_recordings_refuses_what_it_cannot_use(tmp_path):
    assert "Not found: " in refused(find_recordings, [tmp_path / "nowhere"])
    text = refused(find_recordings, [tmp_path])
    assert "No recording" in text and f"Searched: {tmp_path}" in text
    assert "a.txt" in refused(find_recordings, [touch(tmp_path / "a.txt")])


def test_names_that_repeat_are_refused_with_a_way_out(tmp_path, two_sites):
    text = refused(find_recordings, [tmp_path / "field"])
    assert all(str(path) in text for name, path in two_sites.items() if "_05" in name)
    assert "--recording-ids path" in text
    # Two formats of one recording stay two recordings of one path.
    both = [touch(tmp_path / "x" / name) for name in ("a.flac", "a.wav")]
    for ids in ("name", "path"):
        text = refused(find_recordings, [tmp_path / "x"], ids)
        assert all(str(path) in text for path in both)
        assert "remove one" in text and "--recording-ids" not in text


def test_recordings_by_path(tmp_path, two_sites, monkeypatch):
    field = tmp_path / "field"
    assert find_recordings([field], "path") == two_sites
    monkeypatch.chdir(field)
    relative = find_recordings(["."], "path")
    assert list(relative) == list(two_sites)
    # What is named itself has no folder to begin from.
    single = two_sites["site1/deep/b.c"]
    assert find_recordings([single], "path") == {"b.c": single}
    text = refused(find_recordings, [field / "site1", field / "site2"], "path")
    assert "name the folder above both" in text and "site2" in text


def test_a_table_says_what_recordings_are_called(tmp_path, two_sites):
    field, single = tmp_path / "field", two_sites["site1/deep/b.c"]
    # Where names repeat, no table has to say so.
    assert list(find_named_recordings([field], [])) == [
        "site1/20210101_050000",
        "b.c",
        "site2/20210101_050000",
    ]
    assert find_named_recordings([field], two_sites) == two_sites
    assert find_named_recordings([field / "site1"], ["b.c"])["b.c"] == single
    assert folder_recordings(field, ["site1/deep/b.c"]) == two_sites
    assert folder_recordings(tmp_path / "nowhere", ["a"]) == {}
    # A file right in the folder has its name for a path.
    top = touch(field / "20210101_050000.flac")
    assert folder_recordings(field, ["20210101_050000"])["20210101_050000"] == top


def test_a_name_that_may_mean_another_recording_is_refused(tmp_path, two_sites):
    field = tmp_path / "field"
    text = refused(folder_recordings, field, ["20210101_050000"])
    assert "Received: 20210101_050000" in text and "write site1/20210101_050000" in text
    text = refused(folder_recordings, field, ["b.c", "site1/deep/b.c"])
    assert "Received: b.c" in text and "write site1/deep/b.c" in text


def test_files_of_recordings_stay_in_their_folder(tmp_path):
    assert path_for_recording(tmp_path, "a.b", ".txt") == tmp_path / "a.b.txt"
    assert path_for_recording(tmp_path, "s/a", ".txt") == tmp_path / "s" / "a.txt"
    for name in ("", ".", "..", "../a", "s/../../a", "/a", "s//a", "s/", "./a"):
        assert repr(name) in refused(path_for_recording, tmp_path, name, ".txt")
