"""Torch's legacy files are read as tensors, and nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from featcache.backbones.efficientnet_lite0 import embedded_file
from featcache.backbones.torch_file import read_torch_file
from featcache.errors import FeatcacheError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Named:
    """Pickles as a global name, as torch's own functions and storage types do."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class Tensor:
    """Pickles as torch does: a call of `rebuild` on a storage, an offset, a size and strides."""

    def __init__(self, storage, offset, size, stride, rebuild=None):
        self.rebuild = rebuild or Named("torch._utils", "_rebuild_tensor_v2")
        self.arguments = (storage, offset, size, stride, False, OrderedDict())


class TorchPickler(pickle._Pickler):
    """Python's own pickler, with torch's names written as if they could be imported."""

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", Named("torch", "FloatStorage"), value.key, "cpu", value.count, None)
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Tensor):
            self.save_reduce(value.rebuild, value.arguments)
        else:
            super().save(value, save_persistent_id)

    def save_reduce(self, func, args, *rest, **options):
        self.save(func)
        self.save(args)
        self.write(pickle.REDUCE)


def write(path: Path, state, storages: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as file:
        facts = {"little_endian": True}
        for value in (MAGIC, PROTOCOL, facts, state, sorted(storages)):
            TorchPickler(file, protocol=2).dump(value)
        for key in sorted(storages):
            file.write(len(storages[key]).to_bytes(8, "little") + storages[key].tobytes())
    return path


VALUES = np.arange(24, dtype="<f4")


def test_strides_are_honoured(tmp_path):
    """A tensor stored with permuted strides comes back in its own order."""
    storage = Storage("a", 24)
    state = {
        "plain": Tensor(storage, 0, (2, 3, 4), (12, 4, 1)),
        "permuted": Tensor(storage, 0, (4, 2, 3), (1, 12, 4)),
        "part": Tensor(storage, 20, (4,), (1,)),
        "number": Tensor(storage, 7, (), ()),
    }
    tensors = read_torch_file(write(tmp_path / "w.pth", state, {"a": VALUES}))
    cube = VALUES.reshape(2, 3, 4)
    np.testing.assert_array_equal(tensors["plain"], cube)
    np.testing.assert_array_equal(tensors["permuted"], cube.transpose(2, 0, 1))
    np.testing.assert_array_equal(tensors["part"], VALUES[20:])
    assert tensors["number"].shape == ()
    assert tensors["number"] == 7


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (25,), (1,)),
        (23, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (3,), (-1,)),
        (0, (3, 3), (12, 1)),
        (0, (10**9,), (0,)),
        (0, (2, 2), (1,)),
        (0, (-2,), (1,)),
        (0, (2**62, 2**62), (0, 0)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, size, stride):
    """Offsets, sizes and strides that leave the storage, or blow it up, are refused."""
    state = {"w": Tensor(Storage("a", 24), offset, size, stride)}
    with pytest.raises(FeatcacheError, match="tensor w"):
        read_torch_file(write(tmp_path / "w.pth", state, {"a": VALUES}))


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch", "load")],
)
def test_a_malicious_pickle_does_not_run(tmp_path, module, name):
    """A pickle that calls anything but tensors is refused by name, and the call never happens."""
    proof = tmp_path / "proof"
    command = Tensor(None, 0, (), (), rebuild=Named(module, name))
    command.arguments = (f"touch {proof}",)
    path = write(tmp_path / "w.pth", {"w": command}, {"a": VALUES})
    with pytest.raises(FeatcacheError, match=re.escape(f"{module}.{name}")):
        read_torch_file(path)
    assert not proof.exists()


def test_the_malicious_pickle_would_have_run(tmp_path):
    """Plain pickle does run such a file: the test above can fail."""
    proof = tmp_path / "proof"

    class Command:
        def __reduce__(self):
            return os.system, (f"touch {proof}",)

    pickle.loads(pickle.dumps(Command()))
    assert proof.exists()


def test_damage_is_one_error_with_the_files_name(tmp_path):
    """Cut anywhere, a file gives a FeatcacheError that names it, never another exception."""
    state = {"w": Tensor(Storage("a", 24), 0, (24,), (1,))}
    whole = write(tmp_path / "w.pth", state, {"a": VALUES}).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(FeatcacheError, match=r"cut\.pth"):
            read_torch_file(path)
    with pytest.raises(FeatcacheError, match="absent"):
        read_torch_file(tmp_path / "absent.pth")


def test_the_installed_file_is_whole():
    """The package's file has its 296 entries, some of them with permuted strides."""
    tensors = read_torch_file(embedded_file())
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
