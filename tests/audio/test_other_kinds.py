"""Sound that is not read is named for what it is, with the command that converts it."""

import pytest
from refused import refused

from rfcx_tf.audio.decode import AudioError, read_audio
from rfcx_tf.audio.find import find_recordings

M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
# An ADTS header: MPEG-4, AAC-LC, 44.1 kHz, stereo.
AAC = b"\xff\xf1\x50\x80\x02\x1f\xfc\xde\x02\0"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def folder_of(tmp_path, **files):
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_bytes(content + bytes(100))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("a_m4a", M4A, "M4A"), ("a_m4a", MP4, "MP4"), ("a_aac", AAC, "AAC"), ("a_wma", ASF, "WMA")],
)
def test_it_is_listed_and_refused_with_the_way_to_convert_it(tmp_path, name, content, kind):
    folder = folder_of(tmp_path, b_wav=b"RIFF\0\0\0\0WAVE", **{name: content})
    path = folder / name.replace("_", ".")
    (line,) = find_recordings([folder]).left_out
    for text in (line, refused(find_recordings, [path])):
        assert f"{path} is {kind}" in text and "\n" not in text
        assert text.endswith(f"ffmpeg -i {path} {folder}/a.flac")
    # Under the name of another kind it is opened, and named too.
    renamed = path.rename(folder / "a b.mp3")
    with pytest.raises(AudioError, match=f"is {kind}") as caught:
        read_audio(renamed, 8000)
    assert f"ffmpeg -i '{renamed}' '{folder}/a b.flac'" in str(caught.value)


def test_videos_and_texts_are_no_recordings(tmp_path):
    folder = folder_of(tmp_path, a_mp4=MP4, b_wmv=ASF, c_txt=b"text", d_wav=b"RIFF\0\0\0\0WAVE")
    found = find_recordings([folder])
    assert list(found) == ["d"] and found.left_out == []


def test_what_was_converted_is_not_listed_again(tmp_path):
    found = find_recordings([folder_of(tmp_path, a_m4a=M4A, a_flac=b"fLaC")])
    assert list(found) == ["a"] and found.left_out == []
    assert "a.flac is there" in found.notes[0]
