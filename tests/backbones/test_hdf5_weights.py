"""HDF5 weights files of others are walked before they are used."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from featcache.backbones.hdf5_weights import check_weights_file
from featcache.errors import FeatcacheError


def weights_file(path, **options):
    """A small, honest file in the layout of ``.weights.h5``."""
    with h5py.File(path, "w") as file:
        place = file.create_group("layers/dense/vars")
        place.create_dataset("0", data=np.arange(6.0).reshape(2, 3), **options)
        place.create_dataset("1", data=np.zeros(3))
    return path


def refusal(path) -> str:
    with pytest.raises(FeatcacheError) as caught:
        check_weights_file(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}])
def test_an_honest_file_is_listed_and_read(tmp_path, options):
    """Plain and gzipped files tell their arrays, and give their values."""
    checked = check_weights_file(weights_file(tmp_path / "w.weights.h5", **options))
    assert checked.kind == "keras"
    assert [weight.shape for weight in checked.weights] == [(2, 3), (3,)]
    np.testing.assert_array_equal(next(checked.read()), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/layers/dense/vars/0"), h5py.ExternalLink("other.h5", "/")]
)
def test_links_to_elsewhere_are_refused(tmp_path, link):
    """Soft and external links are refused, wherever they point."""
    path = weights_file(tmp_path / "w.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/dense/vars/2"] = link
    assert "link to elsewhere" in refusal(path)


def test_external_storage_is_refused(tmp_path):
    """A dataset whose bytes lie in another file (measured: h5py would return them) is refused."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef")
    path = weights_file(tmp_path / "w.weights.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("layers/dense/vars/2", (16,), "u1", external=[(str(secret), 0, 16)])
    assert "another file" in refusal(path)


def test_virtual_datasets_are_refused(tmp_path):
    """A virtual dataset is refused."""
    path = weights_file(tmp_path / "w.weights.h5")
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("layers/dense/vars/2", layout)
    assert "virtual" in refusal(path)


@pytest.mark.parametrize("options", [{"compression": "lzf"}, {"fletcher32": True}])
def test_other_filters_are_refused(tmp_path, options):
    """No filter but gzip and shuffle is run."""
    assert "filter" in refusal(weights_file(tmp_path / "w.weights.h5", **options))


def test_declared_bytes_out_of_proportion_are_refused(tmp_path):
    """Two gigabytes declared in twelve kilobytes are refused before they are allocated."""
    path = weights_file(tmp_path / "w.weights.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("layers/dense/vars/2", (2**29,), "f4", chunks=(2**20,), compression=1)
    assert "declares" in refusal(path)


def test_objects_and_text_are_refused(tmp_path):
    """Only numbers (and fixed bytes) are weights."""
    path = weights_file(tmp_path / "w.weights.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("layers/dense/vars/2", data=["a"], dtype=h5py.string_dtype())
    assert "not numbers" in refusal(path)


def test_a_group_that_holds_itself_ends(tmp_path):
    """A hard link to a group above is refused instead of walked without end."""
    path = weights_file(tmp_path / "w.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/again"] = file["layers"]
    assert "nested too deeply" in refusal(path)


def test_a_legacy_file_names_what_it_holds(tmp_path):
    """A legacy file that names an array it does not hold is refused."""
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = [b"dense/kernel:0"]
        file["dense/other"] = np.zeros(3)
    assert "does not hold" in refusal(path)


def test_files_without_weights_are_refused(tmp_path):
    """HDF5 files of something else, and files that are no HDF5, say what is expected."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = np.zeros(3)
    assert "save_weights" in refusal(tmp_path / "x.h5")
    (tmp_path / "y.h5").write_bytes(b"text" * 1000)
    assert "save_weights" in refusal(tmp_path / "y.h5")
