"""Augmented views: seeded random variants of one image, the same on every run.

    "flip,rotate=40,shift=0.2,shear=0.2,zoom=0.2,fill=nearest"   what may change, and how much
    draw(augmentation, key=..., seed=..., number=...)             what does change in one view
    view(pixels, augmentation, key=..., seed=..., number=...)     the pixels of that view

The geometry is that of `ImageDataGenerator`: rotation, shift, shear and zoom about the image's
centre in one bilinear resampling. docs/augmentation.md has units and presets.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import struct
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from featcache.errors import FeatcacheError

Pixels = np.ndarray[Any, Any]

#: Names that may stand for a whole text: the sets of two well-known Keras tutorials.
PRESETS = {
    "classic": "flip,rotate=40,shift=0.2,shear=0.2,zoom=0.2,fill=nearest",
    "flip-rotate": "flip,rotate=72,fill=reflect",
}
FLIPS = ("horizontal", "vertical", "both")
FILLS = {
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
    "black": cv2.BORDER_CONSTANT,
}
#: The largest amount of each change and its unit; amounts are drawn from -x..x (zoom: 1-x..1+x).
LIMITS = {
    "rotate": (180.0, "degrees"),
    "shift": (1.0, "a fraction of each side"),
    "shear": (80.0, "degrees"),
    "zoom": (0.9, "a fraction: factors from 1-x to 1+x"),
    "brightness": (1.0, "a fraction of the pixel range"),
    "contrast": (1.0, "a fraction: factors from 1-x to 1+x"),
}
_GEOMETRY = ("rotate", "shift", "shear", "zoom")
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?")
#: One slot for each random number, used or not: another amount never reshuffles the others.
_SLOTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may change between views, and how much.

    Attributes
    ----------
    flip: "", "horizontal", "vertical" or "both"; each with probability 1/2.
    rotate, shear: degrees.
    shift: fraction of the height and of the width, drawn independently.
    zoom: fraction, drawn independently for the two axes.
    brightness, contrast: fractions.
    fill: what stands outside the image: "nearest", "reflect", "wrap" or "black".
    """

    flip: str = ""
    rotate: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    fill: str = "nearest"

    def __post_init__(self) -> None:
        _check_word("flip", self.flip, ("", *FLIPS))
        _check_word("fill", self.fill, tuple(FILLS))
        for name in LIMITS:
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        if not any(getattr(self, name) for name in ("flip", *LIMITS)):
            raise FeatcacheError(
                "--augment changes nothing: name at least one of flip, " + ", ".join(LIMITS)
            )
        if not any(getattr(self, name) for name in _GEOMETRY):
            # Nothing can come in from outside, so this must not make another recipe.
            object.__setattr__(self, "fill", "nearest")

    @classmethod
    def parse(cls, text: str) -> Augmentation:
        """The augmentation that a text such as "flip,rotate=40" or a preset's name stands for.

        Raises `FeatcacheError` for unknown names, amounts out of range and repeated names.
        """
        preset = text.strip().lower()
        values: dict[str, str | float] = {}
        for item in PRESETS.get(preset, preset).split(","):
            name, value = _parse_item(item.strip())
            if name in values:
                raise FeatcacheError(f"--augment names {name} twice: leave one")
            values[name] = value
        return cls(**values)  # type: ignore[arg-type]  # _parse_item gives each field its type

    @property
    def spec(self) -> str:
        """The one text of this augmentation: sorted, defaults left out, floats as their `repr`."""
        given = {
            field.name: getattr(self, field.name)
            for field in sorted(fields(self), key=lambda field: field.name)
            if getattr(self, field.name) != field.default
        }
        items = (f"{name}={value}" for name, value in given.items())
        return ",".join("flip" if item == "flip=horizontal" else item for item in items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What changes in one view.

    Attributes
    ----------
    flip_x, flip_y: whether left and right, top and bottom change places.
    rotate, shear: degrees, with the sign that they have in `ImageDataGenerator`.
    shift_x, shift_y: fractions of the width and of the height.
    zoom_x, zoom_y: factors; above 1 the image looks smaller.
    brightness: added, as a fraction of 255.
    contrast: factor of the distance from each channel's mean.
    """

    flip_x: bool = False
    flip_y: bool = False
    rotate: float = 0.0
    shear: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    zoom_x: float = 1.0
    zoom_y: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0


def view(pixels: Pixels, augmentation: Augmentation, *, key: str, seed: int, number: int) -> Pixels:
    """The pixels of one view: same shape and type as those given; number 0 is the image itself.

    Parameters
    ----------
    pixels: (H, W, 3) uint8, or float32 in 0..255 (nothing is rounded), C-contiguous.
    key: SHA-256 of the image file's bytes, in hex.

    Safe in threads; OpenCV releases the GIL while it works. On uint8 it computes in fixed point.
    """
    if number == 0:
        return pixels
    drawn = draw(augmentation, key=key, seed=seed, number=number)
    return apply(pixels, drawn, fill=augmentation.fill)


def draw(augmentation: Augmentation, *, key: str, seed: int, number: int) -> Draw:
    """The random numbers of one view: a function of its arguments and of nothing else."""
    a = augmentation
    u = _uniform(f"featcache view 1\n{key}\n{seed}\n{number}")
    return Draw(
        flip_x=u[0] < 0.5 and a.flip in ("horizontal", "both"),
        flip_y=u[1] < 0.5 and a.flip in ("vertical", "both"),
        rotate=a.rotate * (2 * u[2] - 1),
        shear=a.shear * (2 * u[3] - 1),
        shift_x=a.shift * (2 * u[4] - 1),
        shift_y=a.shift * (2 * u[5] - 1),
        zoom_x=1 + a.zoom * (2 * u[6] - 1),
        zoom_y=1 + a.zoom * (2 * u[7] - 1),
        brightness=a.brightness * (2 * u[8] - 1),
        contrast=1 + a.contrast * (2 * u[9] - 1),
    )


def apply(pixels: Pixels, drawn: Draw, *, fill: str) -> Pixels:
    """A new array of the same shape and type, changed as drawn."""
    height, width = pixels.shape[:2]
    changed = cv2.warpAffine(
        pixels,
        _matrix(drawn, height, width),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=FILLS[fill],
    )
    if (drawn.brightness, drawn.contrast) != (0.0, 1.0):
        changed = _recolour(changed, drawn)
    return np.asarray(changed)


def _matrix(drawn: Draw, height: int, width: int) -> Pixels:
    """(2, 3): where in the image the pixel (x, y, 1) of the view is taken from."""
    angle, lean = math.radians(drawn.rotate), math.radians(drawn.shear)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    to_centre = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
    from_centre = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shift = np.array([[1, 0, drawn.shift_x * width], [0, 1, drawn.shift_y * height], [0, 0, 1]])
    shear = np.array([[1, -math.sin(lean), 0], [0, math.cos(lean), 0], [0, 0, 1]])
    # Last in the product is first on the view's pixels: the flip stands outside the rest.
    zoom = np.diag([drawn.zoom_x, drawn.zoom_y, 1])
    flip = np.diag([-1 if drawn.flip_x else 1, -1 if drawn.flip_y else 1, 1])
    matrix: Pixels = from_centre @ rotate @ shift @ shear @ zoom @ flip @ to_centre
    return matrix[:2]


def _recolour(pixels: Pixels, drawn: Draw) -> Pixels:
    means = np.array(cv2.mean(pixels)[:3])
    offsets = means * (1 - drawn.contrast) + 255 * drawn.brightness
    matrix = np.column_stack([np.eye(3) * drawn.contrast, offsets])
    recoloured: Pixels = np.clip(cv2.transform(pixels, matrix), 0, 255)
    return recoloured


def _uniform(text: str) -> list[float]:
    """Numbers in [0, 1), by SHAKE-256: no library's random stream, which may change, is in it."""
    raw = hashlib.shake_256(text.encode("ascii")).digest(8 * _SLOTS)
    return [(word >> 11) * 2.0**-53 for word in struct.unpack(f"<{_SLOTS}Q", raw)]


def _parse_item(item: str) -> tuple[str, str | float]:
    name, equals, value = (part.strip() for part in item.partition("="))
    if name in LIMITS:
        return name, _parse_amount(name, value)
    if name in ("flip", "fill"):
        word = value if equals or name == "fill" else "horizontal"
        if not word:
            raise FeatcacheError(f"--augment {name}= needs a word: {_choices(name)}")
        return name, word
    if name in PRESETS:
        raise FeatcacheError(
            f"--augment: the preset {name} stands alone; to change it, write it out: "
            f"{PRESETS[name]}"
        )
    known = ["flip", "fill", *LIMITS]
    raise FeatcacheError(
        f"--augment has no {name!r}{_nearest(name, [*known, *PRESETS])}: write {', '.join(known)}, "
        f"separated by commas, or one of the presets {', '.join(PRESETS)}"
    )


def _parse_amount(name: str, value: str) -> float:
    largest, unit = LIMITS[name]
    if not _NUMBER.fullmatch(value):
        raise FeatcacheError(
            f"--augment {name}={value}: expected a bare number from 0 to {largest:g} ({unit}); it "
            f"works in both directions"
        )
    return float(value)


def _checked(name: str, amount: float) -> float:
    largest, unit = LIMITS[name]
    if not 0 <= amount <= largest:
        raise FeatcacheError(f"--augment {name}={amount:g}: expected 0 to {largest:g} ({unit})")
    return float(amount)  # an int would have another text


def _check_word(name: str, word: str, choices: tuple[str, ...]) -> None:
    if word not in choices:
        raise FeatcacheError(
            f"--augment {name}={word}{_nearest(word, choices)}: expected {_choices(name)}"
        )


def _choices(name: str) -> str:
    return ", ".join(FLIPS if name == "flip" else FILLS)


def _nearest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    found = difflib.get_close_matches(word, choices, n=1, cutoff=0.4)
    return f" (did you mean {found[0]}?)" if found and word else ""
