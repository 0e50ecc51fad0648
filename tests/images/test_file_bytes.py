"""Reading: one buffer, regular files only, never hanging, each refusal with its reason."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from featcache.errors import BadImage, FeatcacheError, StorageFailure
from featcache.extraction.update import label_conflicts
from featcache.images import file_bytes, find_images
from featcache.images.decoder import decode
from featcache.recipe import Decoding


def refusal(root, name: str, **options: bool) -> BadImage:
    """What reading one image of a folder raises; its stamp must then be None."""
    images = find_images(root, **options)
    index = images.names.index(name)
    assert images.stat(index) is None
    start = time.perf_counter()
    with pytest.raises(BadImage) as caught:
        images.read(index)
    assert time.perf_counter() - start < 1
    return caught.value


def test_bytes_key_and_stamp_belong_together(plant) -> None:
    """The key is the SHA-256 of the very buffer handed on, and the stamp that of the file."""
    root = plant("cats/1.jpg")
    images = find_images(root)
    image = images.read(0)
    raw = (root / "cats/1.jpg").read_bytes()
    assert image.raw == image.content == raw
    assert image.key == hashlib.sha256(raw).hexdigest()
    assert image.stamp == images.stat(0)
    assert image.stamp.size == len(raw)
    assert image.array is None


def test_names_and_places_are_not_in_the_key(plant) -> None:
    """A renamed, moved or copied file has the same key; one changed byte another."""
    root = plant("cats/1.jpg")
    (root / "dogs").mkdir()
    (root / "dogs" / "other.png").write_bytes((root / "cats/1.jpg").read_bytes())
    images = find_images(root)
    assert images.read(0).key == images.read(1).key
    (root / "dogs" / "other.png").write_bytes((root / "cats/1.jpg").read_bytes() + b"x")
    assert images.read(0).key != images.read(1).key


def test_the_same_image_in_two_classes_is_told(plant) -> None:
    """32: equal content under two labels gives a sentence that names both."""
    root = plant("cats/1.jpg", "dogs/2.jpg")
    (root / "dogs/3.jpg").write_bytes((root / "cats/1.jpg").read_bytes())
    images = find_images(root)
    keys = [images.read(index).key for index in range(3)]
    assert label_conflicts(images, keys) == [
        "'cats/1.jpg' ('cats') and 'dogs/3.jpg' ('dogs') are the same image with two labels"
    ]


def test_a_pipe_a_socket_and_a_device_never_hang(plant) -> None:
    """33: what is no regular file is refused at once."""
    root = plant("1.jpg")
    os.mkfifo(root / "pipe.jpg")
    assert refusal(root, "pipe.jpg").code == "not-a-file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.jpg"))
        assert refusal(root, "socket.jpg").code == "not-a-file"
    (root / "device.jpg").symlink_to("/dev/zero")
    bad = refusal(root, "device.jpg", follow_symlinks=True)
    assert (bad.code, "device" in bad.message) == ("not-a-file", True)


def test_a_folder_called_like_an_image_is_a_folder(plant) -> None:
    """33: a directory named x.jpg is walked, and named directly it is a folder of images."""
    root = plant("x.jpg/1.jpg")
    assert find_images(root).labels == ["x.jpg"]


def test_broken_and_looping_links_are_told_apart(plant) -> None:
    """33: a link to nothing, and a link to itself."""
    root = plant("1.jpg")
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    for follow in (False, True):
        assert refusal(root, "broken.jpg", follow_symlinks=follow).code == "broken-link"
        assert refusal(root, "loop.jpg", follow_symlinks=follow).code == "link-loop"


def test_links_stay_inside_the_folder(plant, tmp_path) -> None:
    """33: a link to a file inside is ordinary; one that leaves needs --follow-symlinks."""
    root = plant("cats/1.jpg")
    outside = tmp_path / "photos-private.jpg"
    outside.write_bytes((root / "cats/1.jpg").read_bytes())
    (root / "cats" / "in.jpg").symlink_to("1.jpg")
    (root / "cats" / "out.jpg").symlink_to(outside)
    images = find_images(root)
    assert images.read(images.names.index("cats/in.jpg")).raw == outside.read_bytes()
    assert images.stat(images.names.index("cats/in.jpg")) == images.stat(0)
    bad = refusal(root, "cats/out.jpg")
    assert bad.code == "link-leaves-root"
    assert "--follow-symlinks" in bad.message
    followed = find_images(root, follow_symlinks=True)
    assert followed.read(followed.names.index("cats/out.jpg")).raw == outside.read_bytes()


def test_empty_and_enormous_files_are_refused_unread(plant) -> None:
    """1, 34: no bytes, and a sparse terabyte."""
    root = plant("1.jpg", "2.jpg", "3.jpg")
    (root / "1.jpg").write_bytes(b"")
    os.truncate(root / "2.jpg", 2**40)
    assert refusal(root, "1.jpg").code == "empty"
    assert refusal(root, "2.jpg").code == "too-large"


def test_a_file_that_vanished_is_missing(plant) -> None:
    """A file deleted after the folder was listed costs only itself."""
    root = plant("1.jpg", "2.jpg")
    images = find_images(root)
    (root / "1.jpg").unlink()
    with pytest.raises(BadImage, match="gone") as caught:
        images.read(0)
    assert caught.value.code == "missing"
    assert images.stat(0) is None
    assert images.read(1).raw


def test_a_file_growing_while_read_is_refused(plant) -> None:
    """35: bytes appended between two looks at the file are never taken for an image."""
    root = plant("1.jpg")
    (root / "1.jpg").write_bytes(os.urandom(2**20))
    images = find_images(root)
    stop = threading.Event()

    def grow() -> None:
        with (root / "1.jpg").open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"more")

    writer = threading.Thread(target=grow)
    writer.start()
    codes = set()
    try:
        deadline = time.monotonic() + 5
        while "changed" not in codes and time.monotonic() < deadline:
            try:
                raw = images.read(0).raw
                assert (len(raw) - 2**20) % 4 == 0
            except BadImage as bad:
                codes.add(bad.code)
    finally:
        stop.set()
        writer.join()
    assert codes == {"changed"}


@pytest.mark.parametrize(
    ("number", "expected"),
    [(13, "permission"), (1, "permission"), (5, "io-error"), (36, "name-too-long")],
)
def test_refusals_of_the_system_become_reasons(plant, monkeypatch, number, expected) -> None:
    """EACCES, EPERM, EIO: root may read anything, so the system's answer is injected."""
    images = find_images(plant("1.jpg"))

    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_bytes.os, "open", refuse)
    with pytest.raises(BadImage) as caught:
        images.read(0)
    assert caught.value.code == expected


def test_running_out_of_open_files_is_not_the_images_fault(plant, monkeypatch) -> None:
    """EMFILE ends the run with advice: filed under the image, it would stay there."""
    images = find_images(plant("1.jpg"))

    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(file_bytes.os, "open", refuse)
    with pytest.raises(StorageFailure, match="ulimit -n"):
        images.read(0)


def test_reading_leaves_no_file_open(plant) -> None:
    """Good images and refusals alike give their descriptors back."""
    root = plant("1.jpg", "2.jpg")
    (root / "2.jpg").write_bytes(b"")
    images = find_images(root)
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(50):
        images.read(0)
        with pytest.raises(BadImage):
            images.read(1)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_threads_read_the_same(plant) -> None:
    """Many threads at once get the keys that one gets."""
    images = find_images(plant(*[f"c/{number}.jpg" for number in range(60)]))
    alone = [images.read(index).key for index in range(60)]
    with ThreadPoolExecutor(8) as pool:
        assert [image.key for image in pool.map(images.read, range(60))] == alone
    assert len(set(alone)) == 60


def test_arrays_have_names_keys_and_no_stamp() -> None:
    """Arrays are images: eight-digit names, keys of their shape and pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)
    images = find_images(pixels, labels=range(12), name="toy")
    assert (images.name, images.root, images.names[11]) == ("toy", None, "00000011")
    assert images.labels[11] == "11"
    image = images.read(11)
    assert image.key == hashlib.sha256(b"uint8 5x7x3\n" + pixels[11].tobytes()).hexdigest()
    assert images.stat(11) is None
    assert decode(image.content, Decoding((5, 7))).pixels.tolist() == pixels[11].tolist()


def test_the_keys_of_arrays_know_their_shape() -> None:
    """The same bytes in another shape are another image; grey with or without axis is one."""
    flat = np.arange(48, dtype=np.uint8)
    keys = {find_images(flat.reshape(1, *shape)).read(0).key for shape in [(8, 6), (6, 8)]}
    assert len(keys) == 2
    assert find_images(flat.reshape(1, 8, 6, 1)).read(0).key in keys
    ragged = find_images([flat.reshape(8, 6), flat.reshape(4, 4, 3)])
    assert [ragged.read(index).array.shape for index in range(2)] == [(8, 6, 1), (4, 4, 3)]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 5, 5, 3), np.float32), "not uint8"),
        (np.zeros((2, 5, 5, 4), np.uint8), "shape"),
        (np.zeros((5, 5, 3), np.uint8), r"looks like one image: give images\[None\]"),
        (np.zeros((5, 5), np.uint8), "shape"),
        (np.zeros((0, 5, 5, 3), np.uint8), "no pixel"),
    ],
)
def test_wrong_arrays_are_refused(array, words) -> None:
    """Floats, RGBA, one lone image, nothing: an error that says what is expected."""
    with pytest.raises(FeatcacheError, match=words):
        find_images(array)
