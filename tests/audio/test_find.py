"""Which files are recordings, and what they are called: by name, by path, or as a table does."""

import os
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
from refused import refused

from rfcx_tf.audio.decode import read_audio
from rfcx_tf.audio.find import (
    find_named_recordings,
    find_recordings,
    folder_recordings,
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
    mp3 = write(folder / "d.bak", format="MP3")
    found = find_recordings([tmp_path])
    assert list(found) == ["a", "e"]
    paths = [line.split(" holds sound")[0] for line in found.left_out]
    assert paths == [str(path) for path in (named_txt, *others, mp3)]
    assert find_recordings([folder / "e.WAV", as_wav]).left_out == []
    (folder / "e.WAV").unlink()
    assert f"Left out: 4 ({named_txt} holds sound" in refused(find_recordings, [folder])


@pytest.mark.parametrize(
    ("name", "format"),
    [(f"a.{e}", e.upper()) for e in ("aiff", "au", "caf", "flac", "mp3", "ogg", "w64", "wav")]
    + [("a.AIF", "AIFF"), ("a.snd", "AU"), ("a.wave", "WAV"), ("a.opus", "OGG"), ("a.oga", "OGG")],
)
def test_all_kinds_of_sound_are_looked_for(tmp_path, name, format):
    kind = {"subtype": "OPUS"} if name == "a.opus" else {}
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 4800)
    soundfile.write(tmp_path / name, sound, 48000, format=format, **kind)
    found = find_recordings([tmp_path])
    assert found == {"a": tmp_path / name} and found.left_out == []
    assert len(read_audio(found["a"], 48000)) == soundfile.info(tmp_path / name).frames
    # By its beginning it is known under any name.
    (tmp_path / name).rename(tmp_path / "a.bak")
    assert f"{tmp_path / 'a.bak'} holds sound" in refused(find_recordings, [tmp_path])


def test_links_are_followed_once(tmp_path):
    """A site on another disk, a loop, and a file that is linked twice."""
    season, disk = tmp_path / "season", tmp_path / "disk2"
    here, there = touch(season / "site1" / "a.wav"), touch(disk / "b.wav")
    (season / "site2").symlink_to(disk)
    (season / "site1" / "up").symlink_to(season)
    # Before its folder by name, and after it as a link.
    (season / "0").symlink_to(here.parent)
    found = find_recordings([season], "path")
    assert found == {"site1/a": here, "site2/b": season / "site2" / "b.wav"}
    assert (found.left_out, found.notes) == ([], [])
    assert find_recordings([season, disk]) == {"a": here, "b": season / "site2" / "b.wav"}
    assert folder_recordings(season, ["a"]) == {"a": here, "b": season / "site2" / "b.wav"}
    (season / "0.wav").symlink_to(there)
    found = find_recordings([season])
    assert list(found) == ["a", "b"] and "0.wav to " in found.notes[0]


def test_dead_links_are_listed(tmp_path):
    touch(tmp_path / "a.wav")
    (tmp_path / "site2").symlink_to(tmp_path / "unplugged")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / ".#a.txt").symlink_to("nobody@nowhere")
    for found in (find_recordings([tmp_path]), folder_recordings(tmp_path, [])):
        assert list(found) == ["a"]
        assert [line.split(" is a link")[0] for line in found.left_out] == [
            str(tmp_path / "loop.wav"),
            str(tmp_path / "site2"),
        ]


def test_a_locked_folder_is_listed(tmp_path_factory):
    """Also where only its names can be read."""
    folder = tmp_path_factory.mktemp("locked")
    touch(folder / "a.wav")
    for site in ("site2", "site3"):
        touch(folder / site / "b.wav")
    touch(folder / ".Trashes" / "c.wav")
    folders = [folder / "site2", folder / "site3", folder / ".Trashes"]
    for path, mode in zip(folders, (0o000, 0o444, 0o000), strict=True):
        path.chmod(mode)
    with not_as_root(folder):
        found = find_recordings([folder])
        text = refused(find_recordings, folders[:1])
    for path in folders:
        path.chmod(0o755)
    assert list(found) == ["a"]
    assert found.left_out == [
        f"{folder}/site2 cannot be searched: Permission denied.",
        f"{folder}/site3/b.wav cannot be read: Permission denied.",
    ]
    assert "site2 cannot be searched" in text


@contextmanager
def not_as_root(folder):
    """Root may read everything: then somebody else looks into the folder."""
    if os.geteuid() != 0:
        yield
        return
    modes = {path: path.stat().st_mode for path in folder.parents}
    above = {path: mode for path, mode in modes.items() if not mode & 1}
    for path, mode in above.items():
        path.chmod(mode | 0o111)
    folder.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in above.items():
            path.chmod(mode)


def test_trash_is_counted(tmp_path):
    touch(tmp_path / "a.wav")
    for name in (".Trash-1000/files/b.wav", "$RECYCLE.BIN/S-1/$R1.WAV", ".Trashes/501/c.flac"):
        touch(tmp_path / name)
    for name in ("._a.wav", "lost+found/d.mp3", ".Trashes/info.txt", "System Volume Information/x"):
        touch(tmp_path / name)
    found = find_recordings([tmp_path])
    assert list(found) == ["a"] and found.left_out == []
    assert len(found.notes) == 1 and found.notes[0].startswith("Passed over 5 (")
    # What is named is searched.
    assert list(find_recordings([tmp_path / ".Trashes"])) == ["c"]
    # A link out of a hidden folder counts as what it is.
    (tmp_path / "site").symlink_to(tmp_path / ".Trashes" / "501")
    assert list(find_recordings([tmp_path])) == ["a", "c"]


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
        assert "rename one" in text and "--recording-ids" not in text


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


@pytest.mark.parametrize("ids", ["name", "path"])
@pytest.mark.parametrize(
    "other", ["field/Gru\u0308n/B.wav", "field/Gr\udcfcn/B.wav"], ids=["NFD", "Latin-1"]
)
def test_names_that_differ_only_in_how_letters_are_written_are_listed(tmp_path, ids, other):
    """The others in their folder are used."""
    one, two = touch(tmp_path / "field/Gr\u00fcn/B.wav"), touch(tmp_path / other)
    single = touch(tmp_path / "field/a.wav")
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    for found in (
        find_recordings([tmp_path / "field"], ids),
        folder_recordings(tmp_path / "field", ["B"]),
    ):
        assert list(found.values()) == [single]
        (line,) = found.left_out
        assert line.isascii() and r"Gr\xfcn/B.wav" in line and line.endswith("Rename one.")
    assert "Rename one" in refused(find_recordings, [tmp_path / "field" / one.parent.name, two])


def test_of_copies_whose_names_differ_only_in_how_letters_are_written_one_is_used(tmp_path):
    paths = [touch(tmp_path / name) for name in ("B\u00fc.wav", "Bu\u0308.wav")]
    found = find_recordings([tmp_path])
    assert list(found) == ["B\u00fc"] and found["B\u00fc"] in paths
    assert not found.left_out and len(found.notes) == 1


def test_names_in_another_unicode_form_are_the_same(tmp_path):
    """As a Mac writes them and as a table has them, whichever is which."""
    one = touch(tmp_path / "Gru\u0308n" / "Bu\u0308.wav")
    for find in (find_recordings, find_named_recordings):
        assert find([tmp_path], "name") == {"B\u00fc": one}
    assert folder_recordings(tmp_path, ["Gr\u00fcn/B\u00fc"]) == {"Gr\u00fcn/B\u00fc": one}


def test_a_name_that_is_not_utf8_has_an_id_that_can_be_written(tmp_path):
    """Latin-1, between names that are UTF-8."""
    folder = tmp_path / "gr\u00fcn"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/r\xfch.wav", "wb"):
        pass
    found = find_recordings([tmp_path], "path")
    assert list(found) == ["gr\u00fcn/r\u00fch"]
    assert os.fsencode(found["gr\u00fcn/r\u00fch"]).endswith(b"/r\xfch.wav")


def test_files_of_recordings_with_long_names(tmp_path):
    """They fit, differ, are the same the next time, and keep their ending and folder."""
    ids = [f"s/{letter * 120}{number}" for letter in "xü" for number in (1, 2)]
    ids += ["s/" + "x" * 251]
    ending = ".Table.1.selections.txt"
    paths = [path_for_recording(tmp_path, id_, ending) for id_ in ids]
    for path in paths:
        touch(path)
        assert path.parent == tmp_path / "s" and path.name.endswith(ending)
    assert len(set(paths)) == len(ids)
    assert paths[0] == tmp_path / f"{ids[0]}{ending}"
    assert paths == [path_for_recording(tmp_path, id_, ending) for id_ in ids]


def test_files_of_recordings_stay_in_their_folder(tmp_path):
    assert path_for_recording(tmp_path, "a.b", ".txt") == tmp_path / "a.b.txt"
    assert path_for_recording(tmp_path, "s/a", ".txt") == tmp_path / "s" / "a.txt"
    for name in ("", ".", "..", "../a", "s/../../a", "/a", "s//a", "s/", "./a"):
        assert repr(name) in refused(path_for_recording, tmp_path, name, ".txt")
