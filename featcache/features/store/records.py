"""What goes into the store and what comes out of it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An image without a row.

    `key` is "" where the file could not even be read; `code` is a short ASCII word such as
    "truncated"; `decoder` holds the versions of the decoders that said so.
    """

    path: str
    key: str
    code: str
    message: str
    decoder: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What an extraction commits at a time.

    Attributes
    ----------
    vectors: (n, D) or (n, H, W, C), float32 or float16, all finite.
    keys: (n,) 'S64', SHA-256 of each image file's bytes, in hex.
    views: (n,) int32, 0 = the plain image.
    paths: n texts that encode to UTF-8, at most 4096 bytes each.
    source_sizes: (n, 2) int32, height and width in pixels.
    failures: images that could not be used; n may be 0 beside them.
    """

    vectors: Array
    keys: Array
    views: Array
    paths: list[str]
    source_sizes: Array
    failures: list[Failure]


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """What is the same for every file of a run.

    `provenance` is canonical JSON (versions, runtime, measured parity; no times); `probe` is
    (8, k) float32, k <= 4096: the vectors of the probe images.
    """

    provenance: str
    probe: Array


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """Who the rows of `features.h5` will be, in their final order.

    `labels`, `splits` and `groups` are (R,) int32 codes into `classes`, `split_names` and
    `group_names`; -1 = none. `metadata` is what else is known of the images, by the name of its
    column: R texts each, "" = none.
    """

    paths: list[str]
    keys: Array
    views: Array
    labels: Array
    classes: list[str]
    splits: Array
    split_names: list[str]
    groups: Array
    group_names: list[str]
    failures: list[Failure]
    metadata: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not what was written. `rows` are its bad rows; none = the whole file."""

    path: Path
    reason: str
    rows: list[int]


@dataclass(frozen=True, slots=True)
class RepairResult:
    """Where the bad files went, and how many rows of them were kept and lost.

    Rows of a file whose header cannot be read are not counted: their number is unknown.
    """

    moved: list[Path]
    kept: int
    lost: int


@dataclass(frozen=True, slots=True)
class GcResult:
    """Files deleted, the bytes that frees, and what stays: it is not known to be ours."""

    files: int = 0
    bytes: int = 0
    unrecognised: list[Path] = field(default_factory=list)

    def __add__(self, other: GcResult) -> GcResult:
        left = [*self.unrecognised, *other.unrecognised]
        return GcResult(self.files + other.files, self.bytes + other.bytes, left)


#: float32 and int32 as they lie in the files, whatever machine we are on.
FLOAT32, INT32 = np.dtype("<f4"), np.dtype("<i4")
