"""Manifests as people have them: read, or told what is wrong with them."""

from __future__ import annotations

import json
import re

import pytest

from featcache.errors import BadImage, FeatcacheError
from featcache.images import find_images

PATHS = ["a/1.jpg", "a/2.jpg", "b 3.jpg"]


@pytest.fixture
def table(plant):
    """Write a table of some name beside three images; gives back its path."""

    def write(name: str, content: str | bytes):
        path = plant(*PATHS) / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


CSV = "path,label\na/1.jpg,cat\na/2.jpg,dog\nb 3.jpg,cat\n"
LINES = [
    {"path": path, "label": label} for path, label in zip(PATHS, ["cat", "dog", "cat"], strict=True)
]

READ = {
    "semicolons.csv": CSV.replace(",", ";"),
    "tabs.tsv": CSV.replace(",", "\t"),
    "tabs.csv": CSV.replace(",", "\t"),
    "commas.tsv": CSV,
    "bars.txt": CSV.replace(",", "|"),
    "table.txt": CSV,
    "quoted.csv": 'path,label\n"a/1.jpg","cat"\n"a/2.jpg",dog\n"b 3.jpg","cat"\n',
    "windows lines.csv": CSV.replace("\n", "\r\n"),
    "byte order mark.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "utf-16.csv": CSV.encode("utf-16"),
    "unicode text.txt": CSV.replace(",", "\t").encode("utf-16"),
    "excel.csv": "sep=;\n" + CSV.replace(",", ";"),
    "blank lines.csv": CSV.replace("\n", "\n\n"),
    "spaces.csv": "label , path\ncat, a/1.jpg\ndog,  a/2.jpg\ncat, b 3.jpg \n",
    "backslashes.csv": CSV.replace("/", "\\"),
    "both.csv": "label,path\ncat, a\\1.jpg\ndog, a\\2.jpg\ncat,b 3.jpg\n",
    "dots.csv": CSV.replace("a/", ".\\a\\"),
    "lines.jsonl": "\n".join(map(json.dumps, LINES)),
    "lines.ndjson": "\n".join(
        json.dumps({"label": label, "file_name": path})
        for path, label in zip(PATHS, ["cat", "dog", "cat"], strict=True)
    ),
    "list.txt": "a/1.jpg cat\na/2.jpg dog\nb 3.jpg cat\n",
    "tabbed list.txt": "a/1.jpg\tcat\na/2.jpg\tdog\nb 3.jpg\tcat\n",
    "comma list.lst": "a/1.jpg,cat\na/2.jpg,dog\nb 3.jpg,cat\n",
}


@pytest.mark.parametrize("name", READ)
def test_tables_are_read(table, name) -> None:
    """Three paths and their labels come out of every way to write them."""
    found = find_images(table(name, READ[name]))
    assert found.names == PATHS
    assert found.labels == ["cat", "dog", "cat"]
    assert found.metadata == {}
    assert all(found.read(place).raw for place in range(3))


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_list_of_paths_alone_is_read(table, end) -> None:
    """Spaces within a path are its own where the file is there."""
    found = find_images(table("list.txt", "a/1.jpg\n\nb 3.jpg" + end))
    assert (found.names, found.labels) == (["a/1.jpg", "b 3.jpg"], ["", ""])


@pytest.mark.parametrize(
    "name", ["image", "images", "file", "File", "filename", "file_name", "filepath", "image_path",
             "img", "Image_File"],
)  # fmt: skip
@pytest.mark.parametrize("label", ["label", "class", "category", "Target"])
def test_columns_of_other_names_are_found(table, name, label) -> None:
    """What is surely the path or the label is read as it, which is said."""
    found = find_images(table("t.csv", f"{label},{name}\ncat,a/1.jpg\ndog,a/2.jpg\n"))
    assert (found.names, found.labels) == (["a/1.jpg", "a/2.jpg"], ["cat", "dog"])
    assert f"t.csv: the column {name.lower()!r} is read as the path" in found.remarks


def test_a_column_that_may_be_the_split(table) -> None:
    """`set` is the split where all of its cells say so, else it is kept."""
    found = find_images(table("t.csv", "path,set\na/1.jpg,Train\na/2.jpg,dev_set\nb 3.jpg,\n"))
    assert found.splits == ["train", "validation", ""]
    found = find_images(table("t.csv", "path,set\na/1.jpg,train\na/2.jpg,B\n"))
    assert (found.splits, found.metadata) == (["", ""], {"set": ["train", "B"]})


def test_several_columns_that_may_be_the_label_are_kept(table) -> None:
    """Nothing is guessed: both stay, and the question is asked."""
    found = find_images(table("t.csv", "path,class,category\na/1.jpg,1,cat\na/2.jpg,2,dog\n"))
    assert found.labels == ["", ""]
    assert found.metadata == {"class": ["1", "2"], "category": ["cat", "dog"]}
    assert "no column is called label: is it 'class', 'category'?" in found.remarks[0]


def test_line_breaks_in_cells_are_theirs(table) -> None:
    """A quoted cell may hold lines, commas and quotes; errors count its lines."""
    text = 'path,label,note\n"a/1.jpg",cat,"two\nlines, and ""more"""\na/2.jpg,dog,\n'
    found = find_images(table("t.csv", text))
    assert found.metadata == {"note": ['two\nlines, and "more"', ""]}
    with pytest.raises(FeatcacheError, match=r"expected 3 cells.*line 5 has 2"):
        find_images(table("t.csv", text + "b 3.jpg,cat\n"))


def test_a_file_of_the_name_as_it_is_written_comes_first(table) -> None:
    """A backslash or a space that is part of a name stays, also where another file would do."""
    path = table("t.csv", "path\na\\1.jpg\n a/2.jpg\n")
    (path.parent / "a\\1.jpg").write_bytes(b"odd")
    found = find_images(path)
    assert found.names == ["a\\1.jpg", "a/2.jpg"]
    assert found.read(0).raw == b"odd"


def test_what_was_mended_is_said(table) -> None:
    """How many paths were read otherwise than they are written."""
    path = table("t.csv", "path\na\\1.jpg\na\\2.jpg\n b 3.jpg\n")
    (remark,) = find_images(path).remarks
    assert "of 3 paths are read backslashes as slashes in 2 and without the spaces" in remark


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (["cat;dog", "cat", "dog"], "'cat;dog'"),
        (["cat|dog", "dog", "cow"], r"'cat\|dog'"),
        (["cat|indoor", "dog|indoor", "cow"], r"'dog\|indoor'"),
        (["cat; dog", "dog ;cow", "x"], "'cat; dog'"),
        (['["cat", "dog"]', "x", "y"], "line 2"),
        (["['cat']", "x", "y"], "line 2"),
        (["x", "y", '["cat"]'], "line 4"),
        (["('cat', 'dog')", "x", "y"], "line 2"),
        (["{cat,dog}", "x", "y"], "line 2"),
    ],
)
def test_several_labels_in_a_cell_are_told(table, labels, what) -> None:
    """A list, or labels that also stand alone, are no class of their own."""
    cells = ['"' + label.replace('"', '""') + '"' for label in labels]
    rows = "".join(f"{path},{cell}\n" for path, cell in zip(PATHS, cells, strict=True))
    with pytest.raises(FeatcacheError, match=rf"several labels in one cell.*{what}"):
        find_images(table("t.csv", "path,label\n" + rows))


def test_several_labels_of_json_are_told(table) -> None:
    """A list in JSON lines is several labels too."""
    text = json.dumps({"path": "a/1.jpg", "label": ["cat", "dog"]})
    with pytest.raises(FeatcacheError, match="several labels in one cell"):
        find_images(table("t.jsonl", text))


def test_a_name_that_may_be_several_is_remarked(table) -> None:
    """A bar in a single class's name is a question, a comma is not even that."""
    text = 'path,label\na/1.jpg,either|or\na/2.jpg,"tench, Tinca tinca"\nb 3.jpg,(unknown)\n'
    found = find_images(table("t.csv", text))
    assert found.labels == ["either|or", "tench, Tinca tinca", "(unknown)"]
    assert found.remarks[0].startswith("'either|or' are read as one class each")


def test_a_missing_file_costs_itself(table) -> None:
    """One line of many that leads nowhere fails when it is read, with its line in a remark."""
    found = find_images(table("t.csv", CSV + "gone.jpg,dog\nb/gone.jpg,cat\n"))
    assert len(found) == 5
    assert found.stat(3) is None
    with pytest.raises(BadImage, match="the file is gone"):
        found.read(3)
    assert "2 of 5 paths lead to no file, such as line 5 'gone.jpg': listed as" in found.remarks[-1]


def test_missing_paths_of_a_list_cost_themselves(plant) -> None:
    """As in a manifest; where all are missing it is the list that is wrong."""
    root = plant(*PATHS)
    found = find_images([root / "a/1.jpg", root / "none.jpg"])
    assert "1 of 2 paths lead to no file" in found.remarks[0]
    with pytest.raises(FeatcacheError, match="2 of 2 paths"):
        find_images([root / "none.jpg", root / "nor this.jpg"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("path\nC:\\data\\1.jpg\n", "a drive of Windows leads nowhere"),
        ("path\nhttps://example.org/1.jpg\n", "an address is not fetched"),
        ("path\ns3://bucket/1.jpg\n", "an address is not fetched"),
        ("path\na/1\na/2\n", "with an ending it would be there: 'a/1.jpg'"),
        ("path\na/1.JPG\n", "did you mean '1.jpg'"),
        ("path\nphotos/a/1.jpg\n", "they are there from the current folder"),
    ],
)
def test_where_no_file_is_there_the_cause_is_told(table, monkeypatch, text, hint) -> None:
    """Drives, addresses, missing endings, other spellings, the wrong folder."""
    path = table("t.csv", text)
    monkeypatch.chdir(path.parent.parent)
    with pytest.raises(FeatcacheError, match=f"no such file.*{re.escape(hint)}"):
        find_images(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t.xlsx", "save the sheet as CSV"), ("t.parquet", "save the table as CSV"),
        ("t.json", "one object a line"), ("photos.zip", "unpack it"), ("photos.tar", "unpack it"),
        ("t.csv.gz", "unpack it"), ("x.npy", "uint8 arrays"), ("scan.pdf", "save its pages"),
        ("t.YAML", "write a CSV manifest"),
    ],
)  # fmt: skip
def test_other_files_are_told_from_images(table, name, words) -> None:
    """They are not tried as one image."""
    with pytest.raises(FeatcacheError, match=f"neither an image nor a manifest here: .*{words}"):
        find_images(table(name, b"PAR1"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.jsonl", '{"path": "a/1.jpg"}\n{"path"\n', "line 2 is no JSON"),
        ("t.jsonl", '["a/1.jpg"]\n', "line 1 is no object"),
        ("t.jsonl", '{"label": "cat"}\n', "with `path` among them"),
        ("t.txt", "none.jpg\nnor.jpg\n", "no such file"),
        ("t.txt", "\n\n", "there is no image in it"),
        ("t.tsv", "path\tlabel\na/1.jpg\n", "expected 2 cells"),
        ("t.csv", b"path,label\na/1.jpg,\xe9\n", "line 2 is not UTF-8"),
        ("t.csv", "path;label\na/1.jpg;x;y\n", "line 2 has 3"),
    ],
)
def test_mistakes_in_other_tables_name_their_lines(table, name, text, words) -> None:
    """Whatever the format, the line is named."""
    with pytest.raises(FeatcacheError, match=words):
        find_images(table(name, text))
