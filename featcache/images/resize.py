"""From any size to the network's: squash, crop or pad, antialiased or exactly as Keras does it.

Sizes are (height, width). A crop is the largest centred box of the target's shape, or a share of
its sides; a pad is the whole image, centred on black.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]


def resize(pixels: Pixels, decoding: Decoding) -> Pixels:
    """(H, W, 3) uint8 as (height, width, 3) of `decoding.size` and `decoding.pixel_type`."""
    as_keras = decoding.interpolation == "keras"
    scale = _as_keras if as_keras else _area
    if decoding.resize == "crop":
        pixels = _cropped(pixels, decoding.size, decoding.crop)
    if decoding.resize != "pad":
        return scale(pixels, decoding.size)
    fit = _fit_as_keras if as_keras else _fit
    (height, width), (top, left) = fit(pixels.shape[:2], decoding.size)
    framed = np.zeros((*decoding.size, 3), decoding.pixel_type)
    framed[top : top + height, left : left + width] = scale(pixels, (height, width))
    return framed


def _as_keras(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = size
    if pixels.shape[0] <= 2 * height:
        return _bilinear(pixels, size)
    # Without antialiasing a target row is made of two source rows: float32 for all the others
    # would cost a gigabyte on a large photograph.
    rows, weight = _row_pairs(pixels.shape[0], height)
    pairs = _bilinear(pixels[rows.ravel()], (2 * height, width)).reshape(height, 2, width, 3)
    return np.ascontiguousarray(pairs[:, 0] + (pairs[:, 1] - pairs[:, 0]) * weight)


def _bilinear(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Half-pixel bilinear, no antialiasing, unrounded: `tf.image.resize` to 1e-4 of 255."""
    values = pixels.astype(np.float32)
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))


def _row_pairs(source: int, target: int) -> tuple[Pixels, Pixels]:
    """For each target row its two source rows (target, 2), and the second one's weight."""
    centre = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centre).astype(np.int64)
    weight = (centre - first).astype(np.float32)[:, np.newaxis, np.newaxis]
    return np.clip(np.stack([first, first + 1], axis=1), 0, source - 1), weight


def _area(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Mean over the covered area where a side shrinks, linear where it grows; uint8."""
    height, width = size
    shrunk = (min(pixels.shape[0], height), min(pixels.shape[1], width))
    if pixels.shape[:2] != shrunk:
        # OpenCV's area turns linear as soon as one side grows, so the sides go one at a time.
        pixels = cv2.resize(pixels, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != size:
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(pixels)


def _side_for(side: int, numerator: int, denominator: int) -> int:
    """The other side at the target's shape, in float32 and cut to an integer as Keras does."""
    return int(np.float32(side * numerator) / np.float32(denominator))


def _cropped(pixels: Pixels, size: tuple[int, int], share: float) -> Pixels:
    height, width = pixels.shape[:2]
    box_height = max(1, min(height, _side_for(width, size[0], size[1])))
    box_width = max(1, min(width, _side_for(height, size[1], size[0])))
    if share < 1.0:
        box_height, box_width = (max(1, round(share * side)) for side in (box_height, box_width))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return pixels[top : top + box_height, left : left + box_width]


def _fit(source: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The largest size of the source's shape inside `size`, and its top left corner."""
    scale = min(size[0] / source[0], size[1] / source[1])
    height = min(size[0], max(1, round(source[0] * scale)))
    width = min(size[1], max(1, round(source[1] * scale)))
    return (height, width), ((size[0] - height) // 2, (size[1] - width) // 2)


def _fit_as_keras(
    source: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The same, rounded in float32 as `tf.image.resize_with_pad` rounds."""
    sides, outer = np.array(source, np.float32), np.array(size, np.float32)
    inner = sides / (sides / outer).max()
    height, width = (max(1, int(side)) for side in np.floor(inner))
    top, left = (int(bar) for bar in np.floor((outer - inner) / 2))
    return (height, width), (max(0, min(top, size[0] - height)), max(0, min(left, size[1] - width)))
