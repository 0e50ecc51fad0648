"""Runtime: a network made ready to run batches of one fixed shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError

Array = np.ndarray[Any, Any]

#: Gives the arrays of a batch that was started, once: it waits where it must.
Result = Callable[[], list[Array]]


@dataclass
class Runtime:
    """A network that runs batches of one shape and pixel type.

    Attributes
    ----------
    name, device: what runs it, and on which device.
    choice: one sentence that says why this runtime.
    batch: images in a batch, always.
    precision: the type it computes in.
    lanes: batches that may be under way at once.
    versions: of the libraries that compute.
    remarks: what the user should know of how it was made.
    """

    name: str
    device: str
    choice: str
    versions: dict[str, str]
    shape: tuple[int, int, int, int]
    pixel_type: str
    launch: Callable[[Array], Result] = field(repr=False)
    precision: str = "float32"
    lanes: int = 1
    remarks: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        return self.shape[0]

    def start(self, pixels: Array) -> Result:
        """Begin a batch; the result is taken with a call, and is one float32 array for each tap.

        `pixels` is (batch, H, W, 3) of the pixel type, and must stay as it is until the result is
        taken. The arrays are the caller's own. Raises `FeatcacheError` for any other shape or
        type: the last batch is to be padded.
        """
        if pixels.shape != self.shape or pixels.dtype != self.pixel_type:
            raise FeatcacheError(
                f"a batch of {pixels.dtype} {pixels.shape} was given; this runtime takes "
                f"{self.pixel_type} {self.shape}: pad the last batch"
            )
        return self.launch(pixels)


def run_padded(runtime: Runtime, pixels: np.ndarray) -> list[np.ndarray]:
    """A few images through a runtime of fixed batch, all lanes at once: padded, and cut again.

    Gives one (n, ...) float32 array for each tap.
    """
    outputs: list[list[np.ndarray]] = []
    under_way: deque[tuple[np.ndarray, Callable[[], list[np.ndarray]]]] = deque()
    for start in range(0, len(pixels), runtime.batch):
        padded = np.zeros((runtime.batch, *pixels.shape[1:]), pixels.dtype)
        piece = pixels[start : start + runtime.batch]
        padded[: len(piece)] = piece
        if len(under_way) == runtime.lanes:
            outputs.append(under_way.popleft()[1]())
        under_way.append((padded, runtime.start(padded)))
    outputs += [result() for _, result in under_way]
    return [np.concatenate(tap)[: len(pixels)] for tap in zip(*outputs, strict=True)]
