"""Labels, splits and groups that the caller gives: by name, or one each beside a list of images.

A folder has no order that its user knows, so a plain list beside it would be a guess.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError, some
from featcache.images.layout import SPLITS, split_word

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Named:
    """Whose values they are.

    `has_order`: the user gave these images in this order. `index`: the labels of the rows of a
    pandas Series, where they came in one. `remarks` are added to.
    """

    names: Sequence[str]
    root: Path | None
    has_order: bool
    index: list[Any] | None
    remarks: list[str]


def index_of(values: Any) -> list[Any] | None:
    """The index of a pandas Series; None for anything else."""
    is_series = hasattr(values, "index") and hasattr(values, "iloc") and hasattr(values, "to_dict")
    return list(values.index) if is_series else None


def column(option: str, values: Any, images: Named) -> list[str]:
    """One text an image, "" = none, out of {name: value}, or one value each in the images' order.

    Raises `FeatcacheError` where it cannot be told whose the values are.
    """
    index = index_of(values)
    if index is not None and getattr(values, "ndim", 1) != 1:
        raise FeatcacheError(f"{option}: got a table of {values.shape}; expected one column of it")
    if isinstance(values, Mapping):
        return _by_name(option, list(values), list(values.values()), images)
    if index is not None and any(isinstance(name, str | os.PathLike) for name in index):
        return _by_name(option, index, values.tolist(), images)
    if index is not None and images.index is not None and index != images.index:
        raise FeatcacheError(
            f"{option}: the rows of the two Series have different indices: take both out of one "
            f"table, or give {{name: value}}"
        )
    return _one_each(option, values, images)


def splits_column(values: Any, images: Named) -> list[str]:
    """`column` for splits, in the words that the features have."""
    words = column("splits", values, images)
    words = [split_word(word) for word in words]
    if unknown := sorted(set(words) - {"", *SPLITS}):
        raise FeatcacheError(
            f"splits: {some(unknown, _SHOWN)} not known: train, validation or test"
        )
    return words


def _by_name(option: str, names: list[Any], values: list[Any], images: Named) -> list[str]:
    """Values by the names of their images, or by their paths; who is not named has none."""
    known = set(images.names)
    found: dict[str, str] = {}
    unknown = []
    for given, text in zip(names, _texts(option, values), strict=True):
        name = os.fspath(given) if isinstance(given, os.PathLike) else given
        if name not in known:
            name = _relative(name, images.root)
        if name not in known:
            unknown.append(given)
        elif found.setdefault(name, text) != text:
            raise FeatcacheError(f"{option}: {name!r} is given twice: {found[name]!r} and {text!r}")
    if unknown:
        raise FeatcacheError(
            f"{option}: {len(unknown)} of {len(names)} names are no images here: "
            f"{some(unknown, _SHOWN)}; expected names such as {some(images.names[:2])}"
        )
    if left := len(known - set(found)):
        are = "is not named and has" if left == 1 else "are not named and have"
        images.remarks.append(f"{option}: {left} of {len(known)} images {are} none")
    return [found.get(name, "") for name in images.names]


def _relative(name: Any, root: Path | None) -> str:
    """A path as the set names it: below its root."""
    if not isinstance(name, str) or root is None:
        return str(name)
    return os.path.relpath(os.path.abspath(name), root.absolute())  # noqa: PTH100


def _one_each(option: str, values: Any, images: Named) -> list[str]:
    given = [values] if isinstance(values, str) else list(_ordered(option, values))
    texts = _texts(option, given)
    if not images.has_order:
        example = f"{{{images.names[0]!r}: {texts[0] if texts else ''!r}}}"
        raise FeatcacheError(
            f"{option}: {len(texts)} values by position, but you gave these images no order: "
            f"give {{name: value}}, such as {example}, or a list of paths beside the {option}"
        )
    if len(texts) != len(images.names):
        raise FeatcacheError(
            f"{option}: {len(texts)} given for {len(images.names)} images: give one an image"
        )
    return texts


def _ordered(option: str, values: Any) -> Iterable[Any]:
    if isinstance(values, set | frozenset):
        raise FeatcacheError(f"{option}: a set has no order: give a list, or {{name: value}}")
    if not isinstance(values, Iterable):
        raise FeatcacheError(f"{option}: got {values!r:.80}; expected one value an image")
    return values


def _texts(option: str, values: list[Any]) -> list[str]:
    """Class names or numbers as text; None is ""."""
    for place, value in enumerate(values):
        if value is None or isinstance(value, str | int | np.integer):
            continue
        if _is_missing(value):
            raise FeatcacheError(
                f'{option}: the value at {place} is {value!r}: None or "" means none '
                f"(with pandas: column.astype(object).where(column.notna(), None))"
            )
        if isinstance(value, float | np.floating):
            raise FeatcacheError(
                f"{option}: got the number {value!r}, not a name or a whole number (pandas makes "
                f'such of whole numbers where a cell is empty: column.astype("Int64"))'
            )
        raise FeatcacheError(
            f"{option}: featcache knows one label an image, a class name or number; got "
            f"{value!r:.80} ({type(value).__name__})"
        )
    return ["" if value is None else as_text(str(value)) for value in values]


def _is_missing(value: Any) -> bool:
    """NaN, NaT and pandas' NA, without importing pandas."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    return bool(np.isscalar(value) and value != value)


def as_text(text: str) -> str:
    """Text that UTF-8 can hold: a stray byte ff becomes the four characters \\xff."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    return text


def listed(images: Any) -> list[Any]:
    """What is given one by one, in its order; raises `FeatcacheError` for what is no list."""
    if isinstance(images, Mapping):
        raise FeatcacheError(
            "the images are a dict: give its paths as a list, and {path: label} as labels"
        )
    if getattr(images, "ndim", 1) != 1 and hasattr(images, "columns"):
        raise FeatcacheError("the images are a table: give its column of paths")
    if not isinstance(images, Iterable):
        raise FeatcacheError(
            f"the images are {images!r:.80}: expected a folder, a CSV manifest, an image, a list "
            f"of paths, or uint8 arrays"
        )
    # A set has no order: that of the names is as good as any.
    return sorted(images, key=str) if isinstance(images, set | frozenset) else list(images)
