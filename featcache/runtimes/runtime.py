"""Runtime: a network made ready to run batches of one fixed shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.errors import FeatcacheError

RUNTIMES = ("auto", "tensorflow")
_PIXEL_TYPES = ("uint8", "float32")


@dataclass
class Runtime:
    """A network that runs batches of one shape and pixel type.

    Attributes
    ----------
    name, device: what runs it, and on which device.
    choice: one sentence that says why this runtime.
    batch: images in a batch, always.
    versions: of the libraries that compute.
    traces: how often the network was traced; 1, always.
    """

    name: str
    device: str
    choice: str
    batch: int
    versions: dict[str, str]
    shape: tuple[int, int, int, int]
    pixel_type: str
    compute: Callable[[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]] = field(repr=False)
    count_traces: Callable[[], int] = field(repr=False)

    @property
    def traces(self) -> int:
        return self.count_traces()

    def run(self, pixels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """One batch, (batch, H, W, 3) of the pixel type -> one float32 array for each tap.

        The arrays are the caller's own. Raises `FeatcacheError` for any other shape or type:
        the last batch is to be padded.
        """
        if pixels.shape != self.shape or pixels.dtype != self.pixel_type:
            raise FeatcacheError(
                f"a batch of {pixels.dtype} {pixels.shape} was given; this runtime takes "
                f"{self.pixel_type} {self.shape}: pad the last batch"
            )
        return self.compute(pixels)


def open_runtime(name: str, network: Network, *, batch: int, pixel_type: str) -> Runtime:
    """Make a network ready for batches of `batch` images of `pixel_type` ("uint8", "float32").

    `name` is "auto" or "tensorflow". Raises `FeatcacheError` for anything else.
    """
    if name not in RUNTIMES:
        raise FeatcacheError(f"--runtime {name!r} is not one of {', '.join(RUNTIMES)}")
    if pixel_type not in _PIXEL_TYPES:
        raise FeatcacheError(f"pixels of {pixel_type!r}: expected {' or '.join(_PIXEL_TYPES)}")
    if batch < 1:
        raise FeatcacheError(f"--batch {batch}: expected at least 1 image")
    from featcache.runtimes.tensorflow import compile_network

    compiled = compile_network(network, batch=batch, pixel_type=pixel_type)
    asked = "asked for by --runtime tensorflow"
    return Runtime(
        name="tensorflow",
        device=compiled.device,
        choice=asked if name == "tensorflow" else f"auto: TensorFlow runs on {compiled.device}",
        batch=batch,
        versions=compiled.versions,
        shape=(batch, *network.size, 3),
        pixel_type=pixel_type,
        compute=compiled.compute,
        count_traces=lambda: len(compiled.traced),
    )
