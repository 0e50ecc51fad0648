"""CSV manifests: columns in any order, one line an image, errors that name their lines."""

from __future__ import annotations

import pytest

from featcache.errors import BadImage, FeatcacheError
from featcache.images import find_images


@pytest.fixture
def manifest(plant):
    """Write a manifest beside a/1.jpg, a/2.jpg and b 3.jpg; gives back its path."""

    def write(text: str, encoding: str = "utf-8"):
        path = plant("a/1.jpg", "a/2.jpg", "b 3.jpg") / "list.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_all_four_columns_in_any_order(manifest) -> None:
    """Columns are found by name; labels, splits and groups land with their images."""
    path = manifest("Split, group,path,label\nVal,g1,b 3.jpg,dog\ntraining,,a/1.jpg,cat\n\n")
    images = find_images(path)
    assert (images.name, images.root) == ("list", path.parent)
    assert images.names == ["a/1.jpg", "b 3.jpg"]
    assert images.labels == ["cat", "dog"]
    assert images.splits == ["train", "validation"]
    assert images.groups == ["", "g1"]
    assert images.read(1).raw == (path.parent / "b 3.jpg").read_bytes()
    assert images.stat(1) is not None
    assert images.remarks == []


def test_only_the_path_is_a_must(manifest) -> None:
    """A list of paths is enough, with a byte order mark, Windows line ends and quotes."""
    images = find_images(manifest('path\r\n"a/1.jpg"\r\n./a//2.jpg\r\n', "utf-8-sig"))
    assert images.names == ["a/1.jpg", "a/2.jpg"]
    assert images.labels == ["", ""]
    assert all(images.read(index).raw for index in range(2))


def test_unknown_columns_are_remarked(manifest) -> None:
    """Other columns are ignored, by name."""
    images = find_images(manifest("path,width,label\na/1.jpg,8,cat\n"))
    assert images.labels == ["cat"]
    assert images.remarks == ["list.csv: ignored the column 'width'"]


def test_absolute_paths_are_named_from_the_manifest_where_they_can_be(manifest, tmp_path) -> None:
    """Inside the manifest's folder the name is relative, so that the folder may move."""
    path = manifest("path\n")
    outside = tmp_path / "out.jpg"
    outside.write_bytes(b"outside")
    path.write_text(f"path\n{path.parent}/a/1.jpg\n{outside}\n../out.jpg\n")
    images = find_images(path)
    assert images.names == sorted(["a/1.jpg", str(outside), "../out.jpg"])
    assert images.read(images.names.index(str(outside))).raw == b"outside"
    assert images.read(images.names.index("../out.jpg")).raw == b"outside"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line must name the columns"),
        ("file,label\na/1.jpg,x\n", "with `path` among them"),
        ("path,label,Label\na/1.jpg,x,y\n", "column named twice: 'label'"),
        ("path,label\n", "only a header"),
        ("path,label\na/1.jpg\n", "expected 2 cells.*line 2 has 1"),
        ("path,label\na/1.jpg,cat,fat\n", "line 2 has 3"),
        ("path\na/1.jpg\nnone.jpg\n", "no such file.*line 3 'none.jpg'"),
        ("path\na/1.jpg\n./a/1.jpg\n", "listed twice.*line 3 'a/1.jpg', first on line 2"),
        ("label,path\ncat,a/1.jpg\ndog,\n", "path is empty: line 3"),
        ("path,split\na/1.jpg,later\n", "split is not one of test, train, validation: line 2"),
        ('path\n"a/1.jpg\n', "not CSV"),
        ("path\na\0b.jpg\n", "NUL.*line 2"),
        ("path\n" + "x" * 5000 + ".jpg\n", "more than 4096 bytes.*line 2"),
    ],
)
def test_mistakes_name_their_lines(manifest, text, words) -> None:
    """Each mistake is an error that says which line and what was expected."""
    with pytest.raises(FeatcacheError, match=words):
        find_images(manifest(text))


def test_the_first_ten_lines_are_named(manifest) -> None:
    """Of many mistakes of one kind ten are named, and the others counted."""
    text = "path\n" + "".join(f"none{number}.jpg\n" for number in range(25))
    with pytest.raises(FeatcacheError, match=r"line 11 'none9.jpg'; and 15 more$"):
        find_images(manifest(text))


def test_another_encoding_is_named_by_line(manifest) -> None:
    """A manifest in Latin-1 is refused with the line and the way to save it."""
    with pytest.raises(FeatcacheError, match="line 3 is not UTF-8"):
        find_images(manifest("path,label\na/1.jpg,x\na/2.jpg,é\n", "latin-1"))


def test_links_in_a_manifest_stay_inside_too(manifest, tmp_path) -> None:
    """A link to a file outside fails when read, a path through a folder link at once."""
    path = manifest("path\nlink.jpg\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.jpg").write_bytes(b"x")
    (path.parent / "link.jpg").symlink_to(outside / "x.jpg")
    with pytest.raises(BadImage, match="--follow-symlinks"):
        find_images(path).read(0)
    assert find_images(path, follow_symlinks=True).read(0).raw == b"x"
    (path.parent / "folder").symlink_to(outside)
    path.write_text("path\nfolder/x.jpg\n")
    with pytest.raises(FeatcacheError, match="--follow-symlinks allows it: line 2"):
        find_images(path)
    assert find_images(path, follow_symlinks=True).read(0).raw == b"x"


def test_a_way_up_behind_a_link_is_resolved_before_it_is_opened(manifest, tmp_path) -> None:
    """`link/../1.png` is the file that the system would open, never called by another's name."""
    path = manifest("path\nlink/../1.jpg\n")
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "1.jpg").write_bytes(b"outside")
    (path.parent / "1.jpg").write_bytes(b"inside")
    (path.parent / "link").symlink_to(outside / "deep")
    with pytest.raises(FeatcacheError, match="--follow-symlinks allows it: line 2"):
        find_images(path)
    followed = find_images(path, follow_symlinks=True)
    assert (followed.names, followed.read(0).raw) == (["../outside/1.jpg"], b"outside")
    # Inside, ways up are fine, and the name is that of the file that is read.
    (path.parent / "a" / "deep").mkdir(parents=True, exist_ok=True)
    (path.parent / "a" / "1.jpg").write_bytes(b"of a")
    (path.parent / "inner").symlink_to(path.parent / "a" / "deep")
    path.write_text("path\ninner/../1.jpg\na/deep/../../1.jpg\n../outside/1.jpg\n")
    found = find_images(path)
    read = {name: found.read(at).raw for at, name in enumerate(found.names)}
    assert read == {"a/1.jpg": b"of a", "1.jpg": b"inside", "../outside/1.jpg": b"outside"}
    path.write_text(f"path\n{path.parent}/link/../1.jpg\n")
    with pytest.raises(FeatcacheError, match="--follow-symlinks allows it: line 2"):
        find_images(path)


def test_a_folder_in_a_manifest_is_no_image(manifest) -> None:
    """33: a line that names a folder costs itself when read."""
    with pytest.raises(BadImage, match="it is a folder"):
        find_images(manifest("path\na\n")).read(0)
