"""Head: a fitted classifier with everything needed to use it and to judge it.

A head is one file (see `head_file`). It carries its classes, its recipe, where local weights lay,
the probe, the protocol and the metrics. Loading it runs no code of its maker's: the kind is looked
up in a table, the arrays are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.tuned import weights_in
from featcache.backbones.tuned_record import HEAD as TUNED_HEAD
from featcache.errors import FeatcacheError, above_zero, at_least
from featcache.extraction.lookup import LookupOptions, VectorSource, look_up
from featcache.features.cache import FeatureCache
from featcache.features.features import Features
from featcache.files.write import write_whole
from featcache.heads.calibration import rescale
from featcache.heads.head_file import Newer, damaged_head, pack_head, read_head
from featcache.heads.kinds import HEADS
from featcache.heads.model import Model
from featcache.images import NONE, ImageSet, find_images
from featcache.images.class_names import one_forms
from featcache.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most likely classes of one image, best first; `failure` says why there are none."""

    name: str
    classes: list[str]
    probabilities: list[float]
    failure: str = ""

    @classmethod
    def of(
        cls, name: str, classes: Sequence[str], probabilities: np.ndarray, top: int
    ) -> Prediction:
        """The `top` most likely of some classes, by their probabilities (K,)."""
        best = np.argsort(-probabilities, kind="stable")[:top].tolist()
        chances = [float(probabilities[place]) for place in best]
        return cls(name, [classes[place] for place in best], chances)


@dataclass(frozen=True, eq=False)
class Head:
    """A classifier on the vectors of one recipe.

    Attributes
    ----------
    kind: its name in `HEADS`, or the class of a scikit-learn classifier of your own.
    classes: the K class names, in the order of the probabilities.
    source: the recipe of its vectors, a hint where their weights lay, and the probe.
    trained_on: (n,) uint64, the first 64 bits of the key of every training image, sorted.
    protocol: how the accuracy in `metrics` was measured, in words.
    metrics: what `fit_head` measured.
    temperature: what the logarithms of the model's probabilities are divided by; 1: not calibrated.
    is_digested: whether the file it came from has a digest; those of version 1 have none.
    """

    kind: str
    model: Model
    classes: list[str]
    source: VectorSource
    trained_on: np.ndarray
    protocol: str
    metrics: dict[str, Any]
    versions: dict[str, str]
    path: Path | None = None
    temperature: float = 1.0
    is_digested: bool = True

    @property
    def recipe(self) -> Recipe:
        return self.source.recipe

    def predict_proba(self, vectors: Features | np.ndarray) -> np.ndarray:
        """Class probabilities (n, K) of features, or of an (n, D) array.

        Raises `FeatcacheError` where the features were made by another recipe (it names the
        fields that differ), or the array is not D wide or has numbers that are not finite.
        """
        names = None
        if isinstance(vectors, Features):
            self.check_fits(vectors)
            names, vectors = vectors.names.tolist(), vectors.vectors
        return self._probabilities(vectors, names)

    def _probabilities(self, vectors: np.ndarray, names: Sequence[str] | None) -> np.ndarray:
        if vectors.ndim != 2 or vectors.shape[1] != self.model.width:
            raise FeatcacheError(
                f"the head expects vectors of {self.model.width} numbers, "
                f"got an array of shape {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
            # A row's number among those that are judged would not identify its image.
            which = f"row {row} of the vectors" if names is None else f"the vector of {names[row]}"
            raise FeatcacheError(
                f"{which} has numbers that are not finite: leave such images out, or extract "
                f"again with --dtype float32"
            )
        return rescale(self.model.predict_proba(vectors), self.temperature)

    def check_fits(self, features: Features) -> None:
        """Refuse features without a row, and of another recipe, naming every field that differs.

        Augmentation does not count: it makes other rows, not another space.
        """
        features.check_any()
        differences = self.recipe.plain.differences(features.recipe.plain)
        features.recipe.check_reading(features.path.parent.name, features.names)
        if len(differences) == 1 and self.recipe.pipeline != features.recipe.pipeline:
            raise FeatcacheError(
                f"{features.path.parent.name} was read by other rules than this head's features "
                f"(how some kinds of files are read was mended since): fit again, on features that "
                f"`featcache extract` has brought up to date"
            )
        if differences:
            raise FeatcacheError(
                f"{features.path.parent.name} was not made by this head's recipe. "
                f"Head's value first: {'; '.join(differences)}. "
                f"Use features of the head's recipe, or fit a head on these"
            )

    def predict_images(
        self,
        images: str | Path | np.ndarray | Sequence[Any],
        *,
        top: int = 1,
        pages: str = "first",
        **options: Any,
    ) -> list[Prediction]:
        """The `top` most likely classes of each image; see `predict_stream`.

        A list of paths is answered in its order, a folder sorted by path; with pages="each" every
        page of a file of several is an image.
        """
        found = find_images(images, folders=NONE, pages=pages)
        return list(self.predict_stream(found, top=top, **options))

    def predict_stream(
        self,
        images: ImageSet,
        *,
        top: int = 1,
        cache: str | Path | None = None,
        weights: str | None = None,
        trust_model: bool = False,
        batch: int | None = None,
        threads: int = 2,
        say: Callable[[str], None] = lambda line: None,
    ) -> Iterator[Prediction]:
        """Predictions one by one, in the order of the images; memory does not grow with them.

        Cached rows are used where there are any; no data set is made. `trust_model` lets a model
        of your own run again, where the features were made with one. `say` is told which runtime
        computes the others, and why.
        """
        at_least("--top", top, 1)
        answers = look_up(
            images,
            self.source,
            FeatureCache.open(cache),
            LookupOptions(weights, trust_model, batch, threads),
            say=say,
        )
        for answer in answers:
            found = {
                o.index: Prediction(images.names[o.index], [], [], o.problem[1])
                for o in answer.failed
                if o.problem
            }
            if answer.indices:
                flat = answer.vectors.reshape(len(answer.vectors), -1)
                rows = self._probabilities(flat, [images.names[i] for i in answer.indices])
                for index, row in zip(answer.indices, rows, strict=True):
                    found[index] = Prediction.of(images.names[index], self.classes, row, top)
            for index in sorted(found):
                yield found[index]

    def save(self, path: str | Path, *, base: Path | None = None) -> Path:
        """Write the head as one file, whole or not at all.

        `base`: the folder that the user named, where it was not `path` itself (see
        `featcache.files.write`). Raises `StorageFailure`; `FeatcacheError` for a classifier of
        your own, and where something is there that is not to be written over.
        """
        arrays = {f"model.{name}": array for name, array in self.model.state().items()}
        arrays |= {"probe": self.source.probe, "trained_on": self.trained_on}
        write_whole(Path(path), pack_head(arrays, self._record()), base=base)
        return Path(path)

    def _record(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "classes": self.classes,
            "recipe": self.recipe.to_json(),
            "weights_hint": self.source.weights_hint,
            "settings": self.model.settings,
            "protocol": self.protocol,
            "metrics": self.metrics,
            "temperature": self.temperature,
            "versions": self.versions,
        }

    @classmethod
    def load(cls, path: str | Path) -> Head:
        """Read a head: a file, or the only one in a folder, or that of a fine-tuned backbone.

        Raises `FeatcacheError` where the file is not one, `DamagedFile` where it was one once.
        """
        target = _head_file(Path(path))
        arrays, record, is_digested = read_head(target)
        try:
            head = _head_of(record, arrays)
        except Newer as error:
            raise FeatcacheError(f"{target}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise damaged_head(target, error) from error
        hint = weights_in(target.parent, head.source.weights_hint)
        source = replace(head.source, weights_hint=hint)
        return replace(head, source=source, path=target, is_digested=is_digested)


def _head_of(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> Head:
    kind = HEADS.get(record["kind"])
    if kind is None:
        raise Newer(f"unknown kind of head {record['kind']!r}: upgrade featcache")
    state = {
        name.removeprefix("model."): array
        for name, array in arrays.items()
        if name.startswith("model.")
    }
    model = kind.head.from_state(state, record["settings"])
    classes = one_forms([str(name) for name in record["classes"]])
    if len(classes) != model.outputs:
        raise FeatcacheError(f"{len(classes)} class names for {model.outputs} outputs")
    # Heads that were saved before there was calibration have no temperature.
    temperature = above_zero("temperature", record.get("temperature", 1.0), "1.0")
    return Head(
        kind=record["kind"],
        model=model,
        classes=classes,
        source=VectorSource(
            Recipe.from_json(record["recipe"]), str(record["weights_hint"]), arrays["probe"]
        ),
        trained_on=arrays["trained_on"],
        protocol=str(record["protocol"]),
        metrics=dict(record["metrics"]),
        versions=dict(record["versions"]),
        temperature=temperature,
    )


def _head_file(path: Path) -> Path:
    """The file meant by a path: itself, or the head of a folder of features or of a backbone."""
    if path.is_dir():
        tuned = path / TUNED_HEAD
        listed = sorted(head for head in path.glob("*.head") if head.is_file())
        heads = [tuned] if tuned.is_file() else listed
        if len(heads) == 1:
            return heads[0]
        names = ", ".join(head.name for head in heads) or "none"
        raise FeatcacheError(f"{path}: a folder with {len(heads)} heads ({names}): name one file")
    if not path.is_file():
        raise FeatcacheError(f"{path}: no such head file; `featcache fit-head` makes one")
    return path
