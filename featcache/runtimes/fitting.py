"""A TensorFlow runtime that has run: with XLA where it compiles, at a batch that fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from featcache.backbones import Network
from featcache.backbones.keras_import import import_tensorflow
from featcache.errors import FeatcacheError
from featcache.runtimes.choice import RuntimeChoice
from featcache.runtimes.runtime import Runtime
from featcache.runtimes.tensorflow import compile_network

Made = TypeVar("Made")


def compile_fitting(
    network: Network,
    choice: RuntimeChoice,
    *,
    batch: int,
    pixel_type: str,
    precision: str = "float32",
) -> Runtime:
    """`compile_network`; on a GPU with XLA where that compiles, at the largest batch that fits.

    `batch` of the runtime may be smaller than was asked: halved, once or more; `remarks` says so,
    and whether XLA was refused. Raises `FeatcacheError` where not even one image fits.
    """

    def compiled(size: int, xla: bool) -> Runtime:
        return compile_network(
            network, choice, batch=size, pixel_type=pixel_type, precision=precision, xla=xla
        )

    if not import_tensorflow().config.list_physical_devices("GPU"):
        return compiled(batch, False)
    runtime = halved_until_it_fits(lambda size: with_or_without_xla(compiled, size), batch)
    if runtime.batch == batch:
        return runtime
    remark = f"a batch of {batch} images does not fit the GPU's memory: {runtime.batch} are used"
    return replace(runtime, remarks=(*runtime.remarks, remark))


def halved_until_it_fits(make: Callable[[int], Made], batch: int) -> Made:
    """What `make` gives at `batch`, or at the first of its halves that fits in memory.

    `make` raises TensorFlow's `ResourceExhaustedError` where it does not; at a batch of one image
    that becomes a `FeatcacheError`.
    """
    tensorflow = import_tensorflow()
    while True:
        try:
            return make(batch)
        except tensorflow.errors.ResourceExhaustedError as error:
            if batch == 1:
                raise FeatcacheError(
                    "not even one image fits the GPU's memory. Free it of other programs, choose "
                    "a smaller --size, or hide the GPU: CUDA_VISIBLE_DEVICES=-1"
                ) from error
        # Outside of the handler, whose error would keep the tensors of its frames in memory.
        batch //= 2


def with_or_without_xla(compiled: Callable[[int, bool], Runtime], batch: int) -> Runtime:
    """A runtime that has run a batch: compiled by XLA, or by TensorFlow alone where XLA fails.

    Raises TensorFlow's `ResourceExhaustedError` where the batch does not fit in memory.
    """
    errors = import_tensorflow().errors
    try:
        return tried(compiled(batch, True))
    except errors.ResourceExhaustedError:
        raise
    except errors.OpError as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        remark = f"XLA does not compile this network ({first}): TensorFlow runs it without"
    return replace(tried(compiled(batch, False)), remarks=(remark,))


def tried(runtime: Runtime) -> Runtime:
    """The runtime, after every lane of it has run a black batch at once."""
    pixels = np.zeros(runtime.shape, runtime.pixel_type)
    for result in [runtime.start(pixels) for _ in range(runtime.lanes)]:
        result()
    return runtime
