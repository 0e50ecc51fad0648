"""Metadata: what else a manifest knew of images, as columns of text."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.store.packed_file import PackedFile
from featcache.features.texts import named


@dataclass(frozen=True, eq=False)
class Metadata(Mapping[str, np.ndarray]):
    """Columns of text by name, a text for each of some rows, "" = none; made when asked for."""

    packed: PackedFile
    rows: slice | np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """(R,) texts. Raises `FeatcacheError` with the names that there are."""
        if name not in self.packed.metadata_names:
            there = ", ".join(map(repr, self)) or "none: they come from a manifest's other columns"
            near = difflib.get_close_matches(str(name), list(self), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FeatcacheError(
                f"{self.packed.path}: no column of metadata is called {name!r}{hint} (there are: "
                f"{there})"
            )
        codes = self.packed.metadata[self.rows, self.packed.metadata_names.index(name)]
        used, place = np.unique(codes[codes >= 0], return_inverse=True)
        short = np.full(len(codes), -1)
        short[codes >= 0] = place
        return named(short, [self.packed.metadata_values[code] for code in used.tolist()])

    def __iter__(self) -> Iterator[str]:
        return iter(self.packed.metadata_names)

    def __len__(self) -> int:
        return len(self.packed.metadata_names)

    def __contains__(self, name: object) -> bool:
        return name in self.packed.metadata_names

    def __repr__(self) -> str:
        return f"<Metadata {', '.join(self) or 'none'}>"
