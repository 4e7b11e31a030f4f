"""CSV files as people save them: what is read, and how the rest is refused."""

import pytest
from refused import refused

from rfcx_tf.core.csv_tables import (
    CsvRow,
    from_spreadsheet,
    parse_csv,
    read_csv,
    read_number,
    read_whole_number,
    spreadsheet_text,
)
from rfcx_tf.core.errors import first_few
from rfcx_tf.core.species import SpeciesClass, read_species


@pytest.fixture
def table(tmp_path):
    """table(content) writes a file and returns its path."""

    def write(content):
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        return path

    return write


def test_spreadsheet_habits_do_not_matter(table):
    """A byte order mark, spaces, quotes, line ends, blank lines, empty cells behind the last."""
    path = table(
        b'\xef\xbb\xbf id , "na;me",\r\n\r\n "007", "Owl, small",,,\r\n,,\r\n5\r\n"two\nlines"'
    )
    assert read_csv(path) == (
        ["id", "na;me", ""],
        [
            CsvRow(f"{path}:3", {"id": "007", "na;me": "Owl, small", "": ""}),
            CsvRow(f"{path}:5", {"id": "5", "na;me": "", "": ""}),
            CsvRow(f"{path}:7", {"id": "two\nlines", "na;me": "", "": ""}),
        ],
    )


def test_other_delimiters(table):
    path = table(b"a\tb\n1,5\tx\n")
    assert read_csv(path, ["b"]).rows == [(f"{path}:2", {"a": "1,5", "b": "x"})]
    assert read_csv(path, ["b"], numbers=["a"]).rows[0].cells == {"a": "1.5", "b": "x"}


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        # Nothing but a decimal comma.
        ("a;b\n1,5;2\n", "1.5 2"),
        ("a\tb\n0,250\t12,3456\n", "0.250 12.3456"),
        ("a\tb\n-1,5\t2.5\n", "-1.5 2.5"),
        ('a,b\n"1,5",2\n', "1.5 2"),
        # 1,250 could be 1250; others show which.
        ("a\tb\n1,250\t2\n", "1,250 2"),
        ("a\tb\n1,250\t2,000\n", "1,250 2,000"),
        ("a\tb\n1,250\t2.5\n", "1,250 2.5"),
        ("a\tb\n1,250\t2,5\n", "1.250 2.5"),
        ("a\tb\n1,250\t1000\n", "1.250 1000"),
        ("a;b\n1,250\t2;0.5\n", "1,250\t2 0.5"),
        ("a;b\n1,250;0.5\n", "1.250 0.5"),
        # No number, whatever it is.
        ("a\tb\n1,2,3\t1.000,5\n", "1,2,3 1.000,5"),
    ],
)
def test_decimal_commas(table, content, numbers):
    cells = read_csv(table(content.encode()), numbers=["a", "b", "c"]).rows[0].cells
    assert " ".join(cells.values()) == numbers


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(table, encoding, end):
    path = table(f"id,name{end}1,Grünspecht{end}".encode(encoding))
    assert read_csv(path) == (["id", "name"], [(f"{path}:2", {"id": "1", "name": "Grünspecht"})])


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;", "sep="])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_excels_line_of_the_separator_is_no_row(table, line, end):
    path = table(f"{line}{end}id;t{end}1;1,5{end}".encode("utf-8-sig"))
    assert read_csv(path, numbers=["t"]) == (["id", "t"], [(f"{path}:3", {"id": "1", "t": "1.5"})])


def test_names_are_read_in_one_unicode_form(table):
    """But for paths, which are found by their bytes."""
    path = table("name,file\nGru\u0308n,Gru\u0308n.wav\n".encode())
    assert read_csv(path).rows[0].cells == {"name": "Gr\u00fcn", "file": "Gru\u0308n.wav"}


def test_a_quotation_mark_swallows_no_row(table):
    path = table(b'id,name\n1,"chip\n2,"Owl"\n')
    assert refused(read_csv, path).startswith(f"{path}:3: a row must be CSV")
    text = path.read_text()
    rows = parse_csv(path, text, quotes_lines=False)[0].rows
    assert [row.cells["name"] for row in rows] == ['"chip', "Owl"]
    text = 'id\tname\n1\t"chip\n2\t"a ""b"", c"\n3\tchip"\n'
    rows = parse_csv(path, text, quotes_lines=False)[0].rows
    assert [row.cells["name"] for row in rows] == ['"chip', 'a "b", c', 'chip"']


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", " is empty. It must begin with a line of column names."),
        (b"\r\n,,\r\n", " is empty. It must begin with a line of column names."),
        (b"\nb,c\n", ":2: the header must name a, d. Received: b, c."),
        (b"a,d\n1,2\n1,2,,3\n", ":3: a line must have no more cells than the header (2). "),
        (b"fLaC\x00\xff\xfe\n", " must be a text file in UTF-8: it holds zeros."),
        (b"a,d\n1,\x81\n", " must be a text file in UTF-8: "),
        (bytes(100), " must be a text file in UTF-8: it holds zeros."),
    ],
)
def test_what_is_no_such_table_is_named(table, content, complaint):
    path = table(content)
    assert refused(read_csv, path, ["a", "d"]).startswith(f"{path}{complaint}")


def test_files_that_cannot_be_read_are_named(tmp_path):
    assert refused(read_csv, tmp_path / "x").startswith(f"{tmp_path}/x cannot be read: No such")
    assert "Is a directory" in refused(read_csv, tmp_path)


def test_numbers():
    assert read_number("f:2", "t", "-1e3") == -1000
    assert read_whole_number("f:2", "id", "14.0") == 14
    for text in ("", "one", "nan", "inf"):
        assert refused(read_number, "f:2", "t", text) == (
            f"f:2: t must be a finite number. Received: {text!r}."
        )
    for text in ("-1", "1.5", "1e300"):
        assert refused(read_whole_number, "f:2", "id", text) == (
            f"f:2: id must be a whole number, 0 or more. Received: {text!r}."
        )


@pytest.mark.parametrize(
    "content",
    [
        b"species_id,name\n14,Coqui\n3,\n",
        b"label,species_id\nCoqui,14\n,3\n",
        b"x,name,species_id\n,Coqui,14\ny,,3",
        b"species_id,x,scientific_name\n14,,Coqui\n3\n",
    ],
)
def test_species_are_read_in_their_order(table, content):
    assert read_species(table(content)) == [SpeciesClass(14, "Coqui"), SpeciesClass(3, "s3")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"id,name\n1,a\n", ":1: the header must name species_id"),
        (b"species_id,name\n1,a\n1,b\n", ":3: species_id 1 must not occur twice"),
        (b"species_id,name\nfrog,a\n", ":2: species_id must be a finite number"),
    ],
)
def test_species_are_checked(table, content, complaint):
    path = table(content)
    assert f"{path}{complaint}" in refused(read_species, path)


def test_long_lists_of_names_are_cut():
    assert first_few([]) == "none"
    assert first_few(["a", "b", "c"]) == "3 (a, b, c)"
    assert first_few("abcd") == "4 (a, b, c, ...)"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_program_runs_no_text(first):
    for text in (f"{first}HYPERLINK(1)", f"'{first}x", f"''{first}x"):
        assert spreadsheet_text(text)[:2] in ("'" + first, "''")
        assert from_spreadsheet(spreadsheet_text(text)) == text
    for text in ("", "'t Hooft", "owl", f"a{first}b", "'"):
        assert spreadsheet_text(text) == from_spreadsheet(text) == text
