"""Columns of names: arrays of text that refuse to be compared with numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from featcache.errors import FeatcacheError


class Texts(np.ndarray):
    """An array of text: compared with a number, NumPy would call every name different."""

    def __eq__(self, other: Any) -> Any:
        return np.asarray(super().__eq__(self._text(other)))

    def __ne__(self, other: Any) -> Any:
        return np.asarray(super().__ne__(self._text(other)))

    __hash__ = None

    def _text(self, other: Any) -> Any:
        """What names may be compared with; raises `FeatcacheError` for numbers."""
        kind = np.asarray(other).dtype.kind
        if self.dtype.kind != "U" or kind not in "biuf" or not np.size(other):
            return other
        names = ", ".join(map(repr, sorted(set(self.ravel().tolist()))[:5])) or "none here"
        right = repr(str(other)) if np.ndim(other) == 0 else "a list of text"
        raise FeatcacheError(
            f"names are text, and were compared with the number {other!r:.40}: compare them with "
            f"{right} (names: {names})"
        )


def decoded_text(column: np.ndarray) -> np.ndarray:
    """(R,) 'S' of UTF-8 as text."""
    return (np.strings.decode(column, "utf-8") if len(column) else np.array([], str)).view(Texts)


def named(codes: np.ndarray, names: list[str]) -> np.ndarray:
    """String array of codes into names; -1 becomes ""."""
    strings: np.ndarray = np.array([*names, ""], dtype=str)[codes]
    return strings.view(Texts)
