"""YAML and JSON within bounds, and what a flipped bit does to what is sealed."""

import json

import pytest
import yaml
from refused import refused

from rfcx_tf.core.documents import (
    parse_json,
    parse_yaml,
    read_json,
    read_yaml,
    sealed_json,
    sealed_yaml,
)

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
VALUES = {"classes": [{"species_id": 3, "name": "Coquí"}], "box_hz": {3: (1.5, 2.5)}, "nan": 1e-9}


@pytest.mark.parametrize(
    "text, reason",
    [
        (LAUGHS, "aliases unfold"),
        ("[" * 3000, "levels deep"),
        ("- " * 3000 + "x", "levels deep"),
        ("{a: " * 3000, "levels deep"),
        ("a: &a [*a]", "names what it is in"),
        ("a: 2020-99-99", "month"),
        ("a: !!int ''", "index"),
        ("!!python/object/apply:os.getcwd []", "tag"),
        ("a: [", "parsing"),
    ],
    ids=lambda value: value[:12],
)
def test_yaml_that_cannot_be_used_takes_one_line(tmp_path, text, reason):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert len(text) < 15_000
    message = refused(read_yaml, path, "The recipe")
    assert str(path) in message and reason in message


def test_aliases_and_merges_of_people_are_read():
    text = "a: &a {x: 1, y: [2, 3]}\nb: *a\nc: {<<: *a, x: 5}\nd: {}\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "[1]", "{", "1" * 5000, ""])
def test_json_that_cannot_be_used_takes_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    message = refused(read_json, path, "The list")
    assert str(path) in message and len(message) < 300


def test_json_is_read_as_it_was_written(tmp_path):
    read = parse_json(sealed_json(VALUES, indent=1))
    assert read == json.loads(json.dumps(VALUES))
    # Layout and order are no damage.
    text = json.dumps(dict(reversed(json.loads(sealed_json(VALUES)).items())))
    assert parse_json(text) == read
    # Of earlier versions.
    assert parse_json(json.dumps(VALUES)) == read


def flipped(content: bytes):
    """The content with one bit flipped, every bit once."""
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield bytes(changed)


def test_no_flipped_bit_of_sealed_json_gives_other_values():
    text = sealed_json(VALUES, indent=1).encode()
    values, refusals = parse_json(text), 0
    for content in flipped(text):
        try:
            assert parse_json(content.decode()) == values
        except ValueError:
            refusals += 1
    assert refusals > 8 * len(text) - 50


def test_no_flipped_bit_of_sealed_yaml_gives_other_values(tmp_path):
    path = tmp_path / "a.yaml"
    text = sealed_yaml("# Made by hand.\nthreshold: 0.5\nname: Coquí\n")
    path.write_text(text)
    assert read_yaml(path, "The file") == {"threshold": 0.5, "name": "Coquí"}
    for content in flipped(text.encode()):
        path.write_bytes(content)
        assert str(path) in refused(read_yaml, path, "The file")


def test_who_edits_a_sealed_file_is_told_how_to_keep_that(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(sealed_yaml("threshold: 0.5\n").replace("0.5", "0.7"))
    assert "delete that line" in refused(read_yaml, path, "The file")
    assert read_yaml(path, "The file", sealed=False) == {"threshold": 0.7}
    path.write_text(path.read_text().partition("\n")[2])
    assert read_yaml(path, "The file") == {"threshold": 0.7}
    values = json.loads(sealed_json({"a": 1})) | {"a": 2}
    path.write_text(json.dumps(values))
    assert "delete its entry `seal`" in refused(read_json, path, "The file")
    del values["seal"]
    path.write_text(json.dumps(values))
    assert read_json(path, "The file") == {"a": 2}
