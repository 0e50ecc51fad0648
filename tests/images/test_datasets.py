"""Known data sets: right counts and pixels, no half data set, no path out of the folder."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from featcache.errors import FeatcacheError
from featcache.images.datasets import FASHION_CLASSES, FASHION_FILES, write_dataset


def test_digits_are_scikit_learns(tmp_path):
    """1,797 grey PNGs of 8x8 in ten folders, pixel for pixel the source's."""
    assert write_dataset("digits", tmp_path / "digits") == 1797
    digits = load_digits()
    for number in (0, 700, 1796):
        path = tmp_path / "digits" / str(digits.target[number]) / f"{number:05d}.png"
        want = np.round(digits.images[number] * (255 / 16))
        assert np.array_equal(np.array(Image.open(path)), want)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def fashion_files(folder: Path) -> np.ndarray:
    """The four files of Fashion-MNIST with 20 random images each; gives the test images."""
    folder.mkdir()
    for images, labels in FASHION_FILES.values():
        pixels = np.random.default_rng(1).integers(0, 256, (20, 28, 28))
        write_idx(folder / images, pixels)
        write_idx(folder / labels, np.arange(20) % 10)
    return pixels


def test_fashion_mnist_from_its_four_files(tmp_path):
    """train/ and test/ hold a folder a class; an image's pixels and class are the file's."""
    pixels = fashion_files(tmp_path / "source")
    assert write_dataset("fashion_mnist", tmp_path / "f", tmp_path / "source") == 40
    path = tmp_path / "f" / "test" / FASHION_CLASSES[3] / "00013.png"
    assert np.array_equal(np.array(Image.open(path)), pixels[13])
    assert len(list((tmp_path / "f" / "train").iterdir())) == 10


def test_a_short_or_foreign_file_leaves_nothing(tmp_path):
    """A damaged source gives a sentence, and no half data set stays behind."""
    fashion_files(tmp_path / "source")
    name = FASHION_FILES["test"][0]
    write_idx(tmp_path / "source" / name, np.zeros((3, 28, 28)))
    with pytest.raises(FeatcacheError, match="3 images but 20 labels"):
        write_dataset("fashion_mnist", tmp_path / "f", tmp_path / "source")
    with gzip.open(tmp_path / "source" / name, "wb") as file:
        file.write(b"not an index file")
    with pytest.raises(FeatcacheError, match="not an IDX file"):
        write_dataset("fashion_mnist", tmp_path / "f", tmp_path / "source")
    with pytest.raises(FeatcacheError, match="expected the files"):
        write_dataset("fashion_mnist", tmp_path / "f", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_cats_and_dogs_from_its_zip(tmp_path):
    """Members land under split/class; a member that points out of the folder is not written."""
    archive = tmp_path / "filtered.zip"
    with zipfile.ZipFile(archive, "w") as members:
        for split in ("train", "validation"):
            members.writestr(f"cats_and_dogs_filtered/{split}/cats/cat.0.jpg", b"1")
            members.writestr(f"cats_and_dogs_filtered/{split}/dogs/dog.0.jpg", b"2")
        members.writestr("../../evil/train/cats/cat.1.jpg", b"3")
        members.writestr("cats_and_dogs_filtered/vectorize.py", b"4")
    assert write_dataset("cats_and_dogs", tmp_path / "pets", archive) == 4
    assert (tmp_path / "pets" / "train" / "dogs" / "dog.0.jpg").read_bytes() == b"2"
    assert not (tmp_path.parent / "evil").exists()
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(FeatcacheError, match="not a readable zip"):
        write_dataset("cats_and_dogs", tmp_path / "other", tmp_path / "text.zip")


def test_an_existing_folder_is_never_overwritten(tmp_path):
    """A destination that holds anything is refused; an empty one is used."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(FeatcacheError, match="not an empty folder"):
        write_dataset("digits", tmp_path / "full")
    with pytest.raises(FeatcacheError, match="digits, fashion_mnist, cats_and_dogs"):
        write_dataset("mnist", tmp_path / "new")
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "member",
    ["/OUTSIDE/x.jpg", "//OUTSIDE/a/x.jpg", "a/train/../../x.jpg", "train//x.jpg", "./a/b/x.jpg"],
)
def test_a_member_that_leads_elsewhere_is_not_written(tmp_path, member):
    """Absolute paths, steps up and empty names in an archive write nothing, inside or outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr(member.replace("OUTSIDE", str(outside).strip("/")), b"evil")
        members.writestr("x/train/cats/cat.0.jpg", b"1")
    assert write_dataset("cats_and_dogs", tmp_path / "pets", archive) == 1
    written = [path for path in tmp_path.rglob("*.jpg")]
    assert written == [tmp_path / "pets" / "train" / "cats" / "cat.0.jpg"]


def test_what_lies_beside_is_left_alone(tmp_path, monkeypatch):
    """A folder of the user's own beside the data set stays, whatever it is called; the current
    folder is refused by a sentence.
    """
    own = tmp_path / ".digits-unfinished"
    own.mkdir()
    (own / "thesis.txt").write_text("mine")
    assert write_dataset("digits", tmp_path / "digits") == 1797
    assert (own / "thesis.txt").read_text() == "mine"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FeatcacheError, match="where you are"):
        write_dataset("digits", ".")


def test_an_encrypted_archive_is_refused(tmp_path):
    """An archive that cannot be read without a password is an error with exit code 2."""
    archive = tmp_path / "locked.zip"
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("x/train/cats/cat.0.jpg", b"1")
    content = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(FeatcacheError, match="not a readable zip") as caught:
        write_dataset("cats_and_dogs", tmp_path / "pets", archive)
    assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["locked.zip"]
