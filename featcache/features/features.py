"""Features: vectors, and the identity of their rows. Never imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.store.disk import FileIdentity
from featcache.features.store.packed_file import PackedFile, open_packed
from featcache.features.store.records import Failure
from featcache.recipe import PIPELINE, Recipe

if TYPE_CHECKING:
    import pandas
    import tensorflow


@dataclass(frozen=True, eq=False)
class Features:
    """The vectors of a data set under one recipe, a row for each image (and view).

    Indexing with a slice, a mask or row numbers gives `Features` of those rows; a slice stays a
    view of the memory map, the others copy when their vectors are first asked for.

    Rows are compared with their checksums before they are handed out, once per file and process:
    `maps`, `vectors` and `X` raise `DamagedFile` that names the bad ones. ``load(check=False)``
    leaves that out.

    Attributes
    ----------
    path: the ``features.h5`` they came from.
    recipe: what made them.
    names: (R,) path of each image below its root.
    keys: (R,) SHA-256 of each image's bytes, in hex.
    labels, splits, groups: (R,) strings, "" = none.
    views: (R,) int32, 0 = the plain image.
    failures: images that have no row, and why.
    """

    path: Path
    recipe: Recipe
    names: np.ndarray
    keys: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    views: np.ndarray
    failures: list[Failure] = field(repr=False)
    _packed: PackedFile = field(repr=False)
    _rows: slice | np.ndarray = field(repr=False, default_factory=lambda: slice(None))
    #: What the run that made or updated them did; None where they were only loaded.
    run: Any = field(repr=False, default=None)
    _check: bool = field(repr=False, default=True)

    @property
    def maps(self) -> np.ndarray:
        """The features as stored: (R, D), or (R, H, W, C) where nothing was pooled. Read-only."""
        if self._check:
            self.check()
        return self._packed.vectors[self._rows]

    @property
    def vectors(self) -> np.ndarray:
        """(R, D): a row an image; unpooled maps are flattened to H·W·C. Read-only."""
        maps = self.maps
        return maps if maps.ndim == 2 else maps.reshape(len(maps), self.width)

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """(R, D), as `vectors`, for those who read these rows alone: the others are not checked.

        `rows` are row numbers or a mask.
        """
        if self._check:
            self[rows].check()
        return replace(self, _check=False).vectors

    def check_reading(self) -> None:
        """Raise `FeatcacheError` where rows may be of images that earlier rules misread."""
        if self.recipe.pipeline == PIPELINE:
            return
        doubtful = sum(str(name).lower().endswith((".tif", ".tiff")) for name in self.names)
        if doubtful:
            raise FeatcacheError(
                f"{self.path.parent.name}: {doubtful:,} of its rows are of TIFF files, some kinds "
                f"of which were misread when it was made. Run the same `featcache extract` again: "
                f"rows whose pixels are the same are taken over without the network"
            )

    @property
    def name(self) -> str:
        """As the user may write it: ``photos/vgg16-1a2b3c4d``."""
        return f"{self.path.parent.parent.name}/{self.path.parent.name}"

    @property
    def probe(self) -> np.ndarray:
        """(8, k) float32: what the network gave for the probe's images."""
        return np.array(self._packed.probe)

    @property
    def X(self) -> np.ndarray:
        """`vectors`, under the name that scikit-learn uses."""
        return self.vectors

    @property
    def y(self) -> np.ndarray:
        """`labels`, under the name that scikit-learn uses."""
        return self.labels

    @property
    def indices(self) -> dict[str, np.ndarray]:
        """Row numbers by split, for each split that occurs ("" = none): ``X[indices["train"]]``."""
        return {
            str(split): np.flatnonzero(self.splits == split) for split in np.unique(self.splits)
        }

    @property
    def classes(self) -> list[str]:
        """The distinct labels of these rows, sorted; rows without a label do not count."""
        return sorted(set(self.labels.tolist()) - {""})

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return int(np.prod(self._packed.vectors.shape[1:]))

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored row."""
        return self.width * int(self._packed.vectors.dtype.itemsize)

    @property
    def identity(self) -> FileIdentity:
        """Which file these features are a map of; another one once the file is changed."""
        return self._packed.identity

    def known_sound(self, identity: FileIdentity) -> Features:
        """The same features, not checked again where they are of a file whose rows were."""
        return replace(self, _check=self._check and identity != self.identity)

    @property
    def rows(self) -> np.ndarray:
        """(R,) the number of each row in the file."""
        numbers: np.ndarray = np.arange(len(self._packed.vectors))[self._rows]
        return numbers

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("Features are not iterable: use .vectors, .names, .labels or a slice")

    def __getitem__(self, rows: slice | np.ndarray | list[int] | int) -> Features:
        """The features of some rows: a slice, a boolean mask, row numbers or one row number."""
        if isinstance(rows, (int, np.integer)):
            rows = [int(rows)]
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        if not isinstance(chosen, slice) and chosen.dtype == bool and len(chosen) != len(self):
            raise IndexError(f"the mask has {len(chosen)} entries for {len(self)} rows")
        columns = ("names", "keys", "labels", "splits", "groups", "views")
        picked = {name: getattr(self, name)[chosen] for name in columns}
        return Features(
            path=self.path,
            recipe=self.recipe,
            **picked,
            failures=self.failures,
            _packed=self._packed,
            _rows=self._compose(chosen),
            run=self.run,
            _check=self._check,
        )

    def _compose(self, chosen: slice | np.ndarray) -> slice | np.ndarray:
        """Rows of the file for rows of this object: a slice of everything stays a slice."""
        if isinstance(self._rows, slice) and self._rows == slice(None):
            return chosen
        return self.rows[chosen]

    def check(self) -> None:
        """Compare these rows with their checksums; raises `DamagedFile` that names the bad ones.

        Rows that were found right before in this process are not read again.
        """
        bad = self._packed.bad_rows(self._rows)
        if len(bad):
            shown = ", ".join(str(row) for row in bad[:5])
            raise DamagedFile(
                f"{self.path}: {len(bad)} rows do not match their checksums (rows {shown}...). "
                f"Run `featcache repair {self.path.parent}`, then the same `featcache extract`"
            )

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame: index = image path; columns label, split, group, view, f0, f1, ...

        Raises `FeatcacheError` where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise FeatcacheError(
                'to_pandas() needs pandas: pip install "featcache[pandas]"'
            ) from error
        frame = pandas.DataFrame(
            self.vectors,
            index=pandas.Index(self.names, name="path"),
            columns=[f"f{column}" for column in range(self.width)],
        )
        for position, name in enumerate(("label", "split", "group", "view")):
            column = self.views if name == "view" else getattr(self, f"{name}s")
            frame.insert(position, name, column)
        return frame

    def to_tf_dataset(
        self,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        classes: Sequence[str] | None = None,
    ) -> tensorflow.data.Dataset:
        """A ``tf.data.Dataset`` of (vectors, class numbers) in batches, read from the memory map.

        Parameters
        ----------
        batch_size: rows in a batch; the last one may have fewer.
        shuffle: another order in every epoch, which depends on `seed` and the epoch alone.
        classes: the classes in the order of their numbers; None: those of the whole file, sorted,
            so that a class has the same number in every slice.

        Returns
        -------
        Dataset: float32 (batch, D), or (batch, H, W, C) where nothing was pooled, and int32
        (batch,), a class's number, -1 = no label; vectors alone where the file has no classes.

        Raises
        ------
        FeatcacheError: a label that is not among `classes`, or a class that is there twice;
            `DamagedFile`: a bad row.
        """
        from featcache.features.tf_dataset import tf_dataset

        names = list(self._packed.classes if classes is None else classes)
        codes = _class_numbers(self.labels, names) if names else None
        return tf_dataset(self.maps, codes, batch_size, shuffle=shuffle, seed=seed)

    def __repr__(self) -> str:
        return (
            f"<Features {self.name}: {len(self)} rows of {self.width} {self.recipe.dtype}, "
            f"{len(self.classes)} classes>"
        )


def open_features(path: Path) -> Features:
    """The features of one ``features.h5``; its header and identity are checked, not its rows.

    Raises `FeatcacheError` where it is no such file, `DamagedFile` where it was damaged.
    """
    packed = open_packed(path)
    return Features(
        path=packed.path,
        recipe=Recipe.from_json(packed.recipe),
        names=_text(packed.paths),
        keys=_text(packed.keys),
        labels=_decoded(packed.labels, packed.classes),
        splits=_decoded(packed.splits, packed.split_names),
        groups=_decoded(packed.groups, packed.group_names),
        views=packed.views,
        failures=packed.failures,
        _packed=packed,
    )


def _class_numbers(labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """(R,) int32 places of labels among the classes, -1 = no label."""
    numbers = {name: number for number, name in enumerate(classes)}
    if len(numbers) < len(classes):
        raise FeatcacheError(f"classes {classes}: a class is there twice")
    if unknown := sorted(set(labels.tolist()) - {"", *numbers}):
        raise FeatcacheError(
            f"labels {', '.join(map(repr, unknown[:5]))} are not among the classes "
            f"{', '.join(map(repr, classes[:10]))}: name them all, or choose other rows"
        )
    return np.array([numbers.get(label, -1) for label in labels.tolist()], np.int32)


def _text(column: np.ndarray) -> np.ndarray:
    return np.strings.decode(column, "utf-8") if len(column) else np.array([], dtype=str)


def _decoded(codes: np.ndarray, names: list[str]) -> np.ndarray:
    """String array of codes into names; -1 becomes ""."""
    strings: np.ndarray = np.array([*names, ""], dtype=str)[codes]
    return strings
