"""Recipe: a backbone and everything else that changes a vector, and the one key made of it.

A cached row is found by *(SHA-256 of the image's bytes, view number) x recipe key*. So the law
of this file is: whatever changes a vector is a field here, and nothing else is. Batch size,
threads, library versions and paths are not; the probe (see `runtimes/probe.py`) guards those.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from featcache.errors import FeatcacheError, one_of
from featcache.files.small_files import parse_json

#: Raised by one whenever the meaning of any field below changes: old vectors then answer for
#: images alone whose pixels are still the same (`images/earlier.py`). 2: TIFF by one table.
PIPELINE = 2
#: Raised by one whenever a network computes something else of the same pixels: notes on networks
#: and kept graphs are then made again.
NETWORK_RULES = 1
#: Pixels of a network's longest input side; a batch of larger ones fits in no memory.
LARGEST_SIDE = 16_384

Pooling = Literal["avg", "max", "none"]
Resize = Literal["squash", "crop", "pad"]
Interpolation = Literal["area", "keras"]
BitDepth = Literal["16", "15", "14", "13", "12", "11", "10", "9", "minmax"]
Precision = Literal["float32", "bfloat16", "float16"]
StoredType = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """How RGB pixels in 0..255 become a network's input: ``(pixel / divisor - mean) / std``.

    `order` is the channel order the network was trained with; `mean` and `std` are in that order.
    """

    order: Literal["rgb", "bgr"] = "rgb"
    divisor: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Scaling:
        """The scaling of a recipe's or a note's JSON."""
        mean, std = _triple(values["mean"]), _triple(values["std"])
        return cls(values["order"], float(values["divisor"]), mean, std)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the bytes of one image become the pixels a network sees (see `images/decoder.py`).

    `size` is (height, width) in pixels. `interpolation="keras"` means exactly the pixels of
    ``keras.utils.image_dataset_from_directory``: fast integer DCT, bilinear without antialiasing,
    unrounded float32, no EXIF rotation, alpha dropped. `area` antialiases when it shrinks, keeps
    uint8, applies EXIF and lays alpha over white. `crop` is the share of the largest centred box
    that resize="crop" keeps. `page` is the page of a file of several, from 0; `channels` are one
    (grey) or three (red, green, blue) of its channels, from 0, () = what the file says.
    """

    size: tuple[int, int]
    resize: Resize = "squash"
    interpolation: Interpolation = "area"
    bit_depth: BitDepth = "16"
    crop: float = 1.0
    page: int = 0
    channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.crop != 1.0 and self.resize != "crop":
            raise FeatcacheError(f"a share of {self.crop:g} is of --resize crop, not {self.resize}")
        if not 0.0 < self.crop <= 1.0:
            raise FeatcacheError(f"--resize crop:{self.crop:g}: expected a share from 0 to 1")
        if not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in self.size):
            sides = "x".join(map(str, self.size))
            raise FeatcacheError(f"--size {sides}: expected 1 to {LARGEST_SIDE:,} pixels a side")
        if type(self.page) is not int or self.page < 0:
            raise FeatcacheError(f"--page {self.page}: expected a page's number; the first is 0")
        is_whole = all(type(channel) is int and channel >= 0 for channel in self.channels)
        if not is_whole or len(self.channels) not in (0, 1, 3):
            raise _no_channels(self.channels)

    @property
    def pixel_type(self) -> str:
        """The numpy type of a decoded pixel: "uint8", or "float32" where nothing is rounded."""
        return "float32" if self.interpolation == "keras" else "uint8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that changes a vector.

    Attributes
    ----------
    backbone: name of the network in the table of backbones.
    weights: SHA-256 of the network's weight *values*, in hex.
    layer: the tapped layer; "" is the network's own output without its classifier.
    pooling: "avg" or "max" over height and width, or "none" for the whole map.
    decoding: from bytes to pixels.
    scaling: from pixels to the network's input, as constants.
    precision: the type the network computes in.
    runtime: what computes, where precision is not float32 (in float32 all must agree); else "".
    dtype: the type a vector is stored in.
    augment: canonical augmentation of the views above 0 (`images/augment.py`); "" has view 0 only.
    seed: of those views; 0 where there are none.
    """

    backbone: str
    weights: str
    layer: str = ""
    pooling: Pooling = "avg"
    decoding: Decoding
    scaling: Scaling
    precision: Precision = "float32"
    runtime: str = ""
    dtype: StoredType = "float32"
    augment: str = ""
    seed: int = 0
    pipeline: int = PIPELINE

    def __post_init__(self) -> None:
        for name in ("backbone", "weights", "layer", "runtime", "augment"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r:.80}, not text")
        one_of("--pooling", self.pooling, get_args(Pooling))
        one_of("--resize", self.decoding.resize, get_args(Resize))
        one_of("--interpolation", self.decoding.interpolation, get_args(Interpolation))
        one_of("--bit-depth", self.decoding.bit_depth, get_args(BitDepth))
        one_of("--precision", self.precision, get_args(Precision))
        one_of("--dtype", self.dtype, get_args(StoredType))

    def to_json(self) -> str:
        """The canonical text: sorted keys, ASCII, no floats but as their `repr`.

        An empty `runtime` or `augment`, a `crop` of 1, page 0 and no channels are left out:
        recipes without them keep the keys they had before those existed.
        """
        values = _plain(self)
        if not self.runtime:
            del values["runtime"]
        if not self.augment:
            del values["augment"], values["seed"]
        for name in ("crop", "page", "channels"):
            if getattr(self.decoding, name) == getattr(_DEFAULT, name):
                del values["decoding"][name]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that `to_json` wrote.

        Raises `FeatcacheError` where the text is not a recipe, or one of a newer pipeline.
        """
        try:
            values: dict[str, Any] = parse_json(text)
            if values["pipeline"] > PIPELINE:
                raise FeatcacheError(
                    f"the recipe was made by a newer featcache (pipeline {values['pipeline']}; "
                    f"this one knows {PIPELINE}): upgrade featcache"
                )
            decoding = values.pop("decoding")
            scaling = values.pop("scaling")
            return cls(
                decoding=_decoding(decoding),
                scaling=Scaling.of(scaling),
                **values,
            )
        except FeatcacheError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise FeatcacheError(f"not a recipe: {error!r} in {text[:200]!r}") from error

    @property
    def plain(self) -> Recipe:
        """The recipe of the same view 0, without augmented views."""
        return replace(self, augment="", seed=0)

    @property
    def earlier(self) -> list[Recipe]:
        """The recipes of earlier reading rules that asked for the same; none where none could."""
        asked = self.decoding
        is_new = asked.page or asked.channels or asked.bit_depth not in ("16", "12", "minmax")
        return [] if is_new else [replace(self, pipeline=each) for each in range(1, self.pipeline)]

    @property
    def tap(self) -> str:
        """The layer and its pooling as a user writes them: "fc2", "mixed7:none", "output"."""
        layer = self.layer or "output"
        return layer if self.pooling == "avg" else f"{layer}:{self.pooling}"

    @property
    def summary(self) -> str:
        """What tells it from other recipes of its backbone, in a few words."""
        height, width = self.decoding.size
        words = [self.tap, f"{height}x{width}"]
        words += [self.decoding.resize] if self.decoding.resize != "squash" else []
        words += [self.decoding.interpolation] if self.decoding.interpolation != "area" else []
        words += [f"page {self.decoding.page}"] if self.decoding.page else []
        channels = ",".join(map(str, self.decoding.channels))
        words += [f"channels {channels}"] if channels else []
        words += [kind for kind in (self.precision, self.dtype) if kind != "float32"]
        words += ["rules of before"] if self.pipeline < PIPELINE else []
        return ", ".join(words + ([f"views {self.augment}"] if self.augment else []))

    @property
    def key(self) -> str:
        """SHA-256 of the canonical text, in hex: the identity of every vector made by it."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def check_reading(self, features: str, names: Iterable[str]) -> None:
        """Raise `FeatcacheError` where rows may be of images that earlier rules misread."""
        if self.pipeline == PIPELINE:
            return
        doubtful = sum(str(name).lower().endswith((".tif", ".tiff")) for name in names)
        if doubtful:
            raise FeatcacheError(
                f"{features}: {doubtful:,} of its rows are of TIFF files, some kinds of which were "
                f"misread when it was made. Run the same `featcache extract` again: rows whose "
                f"pixels are the same are taken over without the network"
            )

    def differences(self, other: Recipe) -> list[str]:
        """The fields in which two recipes differ, each as "field: ours, theirs"."""
        mine, theirs = _flat(_plain(self)), _flat(_plain(other))
        return [
            f"{name}: {mine[name]}, {theirs[name]}" for name in mine if mine[name] != theirs[name]
        ]


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, floats as their `repr` (no rounding, no -0 or 1e0)."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def parse_resize(text: str) -> tuple[Resize, float]:
    """--resize: "squash", "crop", "pad", or "crop:0.875": the geometry, and the share of a crop."""
    name, colon, share = text.partition(":")
    one_of("--resize", name, get_args(Resize))
    try:
        return name, float(share) if colon else 1.0  # type: ignore[return-value]
    except ValueError as error:
        raise FeatcacheError(
            f"--resize {text!r}: expected a share from 0 to 1, as in crop:0.875"
        ) from error


def parse_channels(asked: str | int | Sequence[int] | None) -> tuple[int, ...]:
    """--channels: "0,2,1", 1, or a sequence of one or three numbers; None or "" is ()."""
    if asked is None or asked == "":
        return ()
    if isinstance(asked, str) and not re.fullmatch(r" *[0-9]{1,6}( *, *[0-9]{1,6})* *", asked):
        raise _no_channels(asked)
    given = asked.split(",") if isinstance(asked, str) else asked
    try:
        return tuple(int(each) for each in ([given] if isinstance(given, int) else given))
    except (TypeError, ValueError) as error:
        raise _no_channels(asked) from error


def _no_channels(asked: Any) -> FeatcacheError:
    return FeatcacheError(
        f"--channels {asked!r}: expected three numbers for red, green and blue, such as 0,2,1, or "
        f"one for grey; the first channel is 0"
    )


def _decoding(values: dict[str, Any]) -> Decoding:
    crop, page = float(values.pop("crop", 1.0)), values.pop("page", 0)
    channels = tuple(values.pop("channels", ()))
    height, width = values.pop("size")
    return Decoding(size=(height, width), crop=crop, page=page, channels=channels, **values)


#: What `to_json` leaves out of a decoding.
_DEFAULT = Decoding((1, 1))


def _triple(values: list[str]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
