"""Known data sets, written as folders of image files: what a user's own images look like."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from PIL import Image

from featcache.errors import FeatcacheError
from featcache.files.folders import make_folder, move_folder, private_folder, scratch_file
from featcache.files.small_files import MOST_OF_A_TABLE, open_regular
from featcache.files.write import put, writing
from featcache.images.file_bytes import MAX_BYTES

FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle-boot",
)  # fmt: skip
FASHION_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
#: What damaged or crafted archives make their readers raise; `RuntimeError` where one is encrypted.
_DAMAGED = (EOFError, ValueError, zlib.error, struct.error, OverflowError)
_NO_ZIP = (
    zipfile.BadZipFile, FileExistsError, IsADirectoryError, RuntimeError, *_DAMAGED,
)  # fmt: skip
#: Where Debian's package dataset-fashion-mnist puts the four files, then where Keras does.
FASHION_PLACES = (
    Path("/usr/share/datasets/fashion-mnist"),
    Path("~/.keras/datasets/fashion-mnist"),
)
CATS_AND_DOGS_URL = "https://storage.googleapis.com/mledu-datasets/cats_and_dogs_filtered.zip"


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """A data set by name: one sentence about it, and what writes it to a folder."""

    about: str
    write: Callable[[Path, Path | None], int]


def write_dataset(name: str, destination: str | Path, source: str | Path | None = None) -> int:
    """Write a known data set as class folders; gives the number of images.

    Parameters
    ----------
    source: a folder (or zip) that holds the original files, where they are not found by
        themselves.

    Raises
    ------
    FeatcacheError: an unknown name, a destination that is not empty, or files that cannot be
        found; `StorageFailure`: the disk refuses.
    """
    if name not in DATASETS:
        raise FeatcacheError(f"no known data set {name!r}; there are: {', '.join(DATASETS)}")
    folder = Path(destination).resolve()
    if folder in (Path.cwd(), *Path.cwd().parents):
        raise FeatcacheError(f"{destination} is where you are, or above it: name a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FeatcacheError(f"{folder} is there already and not an empty folder: name another")
    if folder == Path.cwd():
        raise FeatcacheError(f"{folder} is the current folder: name one that can be made")
    with writing(folder):
        make_folder(folder.parent)
        # Written beside and renamed, so that an interrupted run leaves no half data set.
        with private_folder(folder.parent, folder.name, mode=0o777) as draft:
            count = DATASETS[name].write(draft, Path(source) if source else None)
            move_folder(draft, folder)
    return count


def _digits(folder: Path, source: Path | None) -> int:
    """scikit-learn's handwritten digits: 1,797 grey images of 8x8 in ten classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return _write_pngs(folder, zip(pixels, digits.target.astype(str), strict=True))


def _fashion_mnist(folder: Path, source: Path | None) -> int:
    """Fashion-MNIST: 60,000 training and 10,000 test images, grey, 28x28, ten classes."""
    place = _fashion_folder(source)
    count = 0
    for split, (images, labels) in FASHION_FILES.items():
        pixels, codes = _read_idx(place / images), _read_idx(place / labels)
        if len(pixels) != len(codes):
            raise FeatcacheError(f"{place}: {len(pixels)} images but {len(codes)} labels ({split})")
        names = (FASHION_CLASSES[code] for code in codes.tolist())
        count += _write_pngs(folder / split, zip(pixels, names, strict=True))
    return count


def _fashion_folder(source: Path | None) -> Path:
    places = [source] if source else [place.expanduser() for place in FASHION_PLACES]
    for place in places:
        if all((place / name).is_file() for pair in FASHION_FILES.values() for name in pair):
            return place
    if source:
        wanted = ", ".join(name for pair in FASHION_FILES.values() for name in pair)
        raise FeatcacheError(f"--source {source}: expected the files {wanted} in it")
    return _download_fashion(places[-1])


def _download_fashion(place: Path) -> Path:
    from keras.datasets import fashion_mnist

    try:
        fashion_mnist.load_data()  # leaves the four files in ~/.keras/datasets
    except Exception as error:
        # Keras raises a bare Exception where it cannot download.
        raise FeatcacheError(
            f"Fashion-MNIST could not be downloaded ({error}). With Debian or Ubuntu: "
            f"apt install dataset-fashion-mnist; else give the folder with its four .gz files: "
            f"--source FOLDER"
        ) from error
    return place


def _read_idx(path: Path) -> np.ndarray:
    """An array in the IDX format of MNIST: magic 0x000008 and the rank, then the shape, then bytes.

    Source: http://yann.lecun.com/exdb/mnist/.
    """
    try:
        with _readable(path) as packed, gzip.open(packed) as file:
            zero, kind, rank = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != 8 or not 1 <= rank <= 3:
                raise FeatcacheError(f"{path}: not an IDX file of bytes")
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            data = file.read(MOST_OF_A_TABLE)
    except (OSError, *_DAMAGED) as error:
        raise FeatcacheError(f"{path}: not a readable gzip file ({error})") from error
    if len(data) != int(np.prod(shape)):
        raise FeatcacheError(f"{path}: {len(data)} bytes for an array of shape {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _write_pngs(folder: Path, images: Iterable[tuple[np.ndarray, str]]) -> int:
    count = 0
    for pixels, label in images:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        content.seek(0)
        put(folder, [label, f"{count:05d}.png"], content)
        count += 1
    return count


def _cats_and_dogs(folder: Path, source: Path | None) -> int:
    """Google's filtered cats and dogs: 2,000 training and 1,000 validation photographs."""
    if source is not None:
        with _readable(source) as archive:
            return _unzip_images(archive, folder, f"--source {source}")
    with scratch_file() as archive:
        _download(CATS_AND_DOGS_URL, archive)
        return _unzip_images(archive, folder, CATS_AND_DOGS_URL)


def _download(url: str, target: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            shutil.copyfileobj(answer, target)
    except OSError as error:
        raise FeatcacheError(
            f"{url} could not be downloaded ({error}). Download it where there is a network and "
            f"give the file: --source cats_and_dogs_filtered.zip"
        ) from error


def _readable(path: Path) -> BinaryIO:
    """A file of a source; raises `FeatcacheError` where it is not there, or no regular file."""
    try:
        return open_regular(path)
    except OSError as error:
        raise FeatcacheError(f"--source {path}: cannot be read: {error.strerror}") from error


def _unzip_images(archive: IO[bytes], folder: Path, name: str) -> int:
    """Copy the JPEG members <...>/train|validation/<class>/<name>.jpg; no other path is written."""
    count = 0
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                if (path := _image_path(member.filename)) and member.file_size <= MAX_BYTES:
                    with members.open(member) as content:
                        put(folder, path, content)
                    count += 1
    except _NO_ZIP as error:
        raise FeatcacheError(f"{name}: not a readable zip file ({error})") from error
    if not count:
        raise FeatcacheError(f"{name}: no member like train/cats/cat.0.jpg in it")
    return count


def _image_path(member: str) -> list[str] | None:
    """The last three names of a member's path, None where it leads anywhere else than below."""
    parts = member.split("/")
    is_plain = not any(part in {"", ".", ".."} or "\0" in part for part in parts)
    return parts[-3:] if is_plain and len(parts) >= 3 and member.endswith(".jpg") else None


DATASETS: dict[str, KnownDataset] = {
    "digits": KnownDataset("1,797 handwritten digits, 8x8, from scikit-learn; offline", _digits),
    "fashion_mnist": KnownDataset(
        "70,000 pieces of clothing, 28x28; train and test", _fashion_mnist
    ),
    "cats_and_dogs": KnownDataset("3,000 photographs; train and validation; 68 MB", _cats_and_dogs),
}
