"""Outcome: what comes out of a fine-tuning, written down and judged by the ordinary way.

OUT/backbone.weights.h5 (or .keras)   with finetuned.json: a backbone like any other
OUT/finetuned.head                    the head on its vectors, for predict and evaluate
OUT/classifier.keras, classes.txt     both as one Keras model
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.tuned import export_tuned, read_record, write_record
from featcache.cache import weights_hint
from featcache.comparison import Comparison, compare
from featcache.errors import FeatcacheError
from featcache.evaluation import judge, prefixes
from featcache.features import Features
from featcache.finetuning.classifier import build_classifier, resizes_inside, save_classifier
from featcache.finetuning.graphs import Graphs
from featcache.finetuning.proofs import largest_term
from featcache.finetuning.start import Start
from featcache.heads import Head
from featcache.heads.dense_training import head_of
from featcache.heads.layers import as_layers
from featcache.learning import Learned, Pictures, differences
from featcache.lookup import Source
from featcache.report import Report
from featcache.store import open_packed

HEAD = "finetuned.head"
#: In the record of a fine-tuning that was finished.
AGREEMENT = "agreement"
#: How far the bare model's logits may be from the head's, as a share of the largest.
SAME = 1e-5
#: Images on which that is checked.
CHECKED = 8


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned network and head.

    Attributes
    ----------
    folder: where everything lies.
    head: on the vectors of the new backbone; `report` is how good it is on the rows that judge.
    frozen: how good the head was on the frozen backbone's, on the same rows.
    comparison: the new head less the old one, paired.
    learned: how the training went.
    judged: the rows that judge, by the new backbone.
    agreement: how far the bare model's probabilities are from those of `predict`.
    about: what was trained, and from what: plain JSON, as in ``finetuned.json``.
    seconds: of everything, from the first extraction on.
    """

    folder: Path
    head: Head
    report: Report
    frozen: Report
    comparison: Comparison
    learned: Learned
    judged: Features
    agreement: float
    about: dict[str, Any]
    seconds: float = 0.0


def write_outcome(
    start: Start, graphs: Graphs, learned: Learned, folder: Path, about: dict[str, Any]
) -> Tuned:
    """Write the backbone, extract with it, judge the head on its vectors, write both as one."""
    about = {**about, "learned": asdict(learned)}
    export_tuned(graphs.network, folder)
    write_record(graphs.network, folder, about)
    features = _extracted(start, folder)
    head = _head(start, features, graphs, about)
    rows = features[_judging(start, features)]
    report = judge(head, rows, protocol=start.roles.protocol, remarks=start.roles.remarks)
    head = replace(head, metrics={**report.to_dict(), "frozen": start.report.to_dict()})
    head = replace(head, path=head.save(folder / HEAD))
    model = build_classifier(graphs.plain, features.recipe.decoding)
    about[AGREEMENT] = check_classifier(graphs, model, head, rows, start)
    save_classifier(model, head.classes, folder)
    # Written again, with what only a finished one has.
    write_record(graphs.network, folder, about)
    return _tuned(start, folder, head, rows, about)


def recall_outcome(start: Start, folder: Path, settings: dict[str, Any]) -> Tuned | None:
    """What an earlier run wrote, judged again; None where none was finished.

    Raises `FeatcacheError` where what is there came from other images or settings: it took long,
    and is not written over.
    """
    record = read_record(folder)
    if record is None or AGREEMENT not in record:
        return None
    if differing := differences(record["settings"], settings):
        raise FeatcacheError(
            f"--out {folder}: a fine-tuning of other images or settings is there "
            f"({'; '.join(differing)}). Name another folder, or delete this one"
        )
    features = _extracted(start, folder)
    return _tuned(
        start, folder, Head.load(folder / HEAD), features[_judging(start, features)], record
    )


def _tuned(start: Start, folder: Path, head: Head, rows: Features, about: dict[str, Any]) -> Tuned:
    return Tuned(
        folder=folder,
        head=head,
        report=judge(head, rows, protocol=start.roles.protocol, remarks=start.roles.remarks),
        frozen=start.report,
        comparison=compare(
            head, rows, start.head, other_features=start.features[start.roles.judge]
        ),
        learned=Learned(**about["learned"]),
        judged=rows,
        agreement=about[AGREEMENT],
        about=about,
    )


def _extracted(start: Start, folder: Path) -> Features:
    """The plain features of all images by the new backbone."""
    plain = {"views": 0, "augment": None, "augment_all": False}
    return start.again(backbone=str(folder), weights=None, scale=None, size=None, **plain)


def _head(start: Start, features: Features, graphs: Graphs, about: dict[str, Any]) -> Head:
    """The Keras head as it is now, with everything needed to use it."""
    roles, packed = start.roles, open_packed(features.path)
    settings = {"finetuned": about, "history": about["learned"]["history"]}
    used = prefixes(start.features.keys[roles.used(start.features)])
    return Head(
        kind="dense",
        model=head_of(graphs.head, start.layers.layers, settings),
        classes=start.head.classes,
        source=Source(features.recipe, weights_hint(features.path.parent), packed.probe),
        trained_on=np.union1d(start.head.trained_on, used),
        protocol=f"{roles.protocol}; fine-tuned from {about['unfreeze_from']} on",
        metrics={},
        versions={name: version(name) for name in ("featcache", "keras", "numpy")},
    )


def _judging(start: Start, features: Features) -> np.ndarray:
    """The rows of the same images as those that judged the frozen features."""
    same: np.ndarray = np.isin(features.names, start.features.names[start.roles.judge])
    return same


def check_classifier(graphs: Graphs, model: Any, head: Head, rows: Features, start: Start) -> float:
    """How far the bare model's probabilities are from those of `predict` on the same pixels.

    Raises `FeatcacheError` where the logits differ by more than 1e-5 of the largest term in their
    sums (1e-3 where vectors are stored as float16).
    """
    images, decoding = start.job.images, rows.recipe.decoding
    rows = rows[: min(CHECKED, len(rows))]
    pictures = Pictures.of(images, decoding, count=len(rows))
    place = {name: index for index, name in enumerate(images.names)}
    pixels = np.stack([pictures[place[name]].pixels for name in rows.names.tolist()])
    logits = np.asarray(graphs.plain(pixels, training=False))
    layers, vectors = as_layers(head.model), rows.vectors.astype(np.float32)
    expected = layers.logits(vectors)
    error = float(np.abs(logits - expected).max()) / largest_term(layers, vectors)
    bound = SAME if rows.recipe.dtype == "float32" else 100 * SAME
    if not error <= bound:
        raise FeatcacheError(
            f"the classifier as one model differs from the head on extracted vectors by "
            f"{error:.1e} of the largest term, at most {bound:g} is rounding: please report it"
        )
    if resizes_inside(decoding):
        return error  # the bare model makes these unrounded pixels itself: it cannot be given them
    return float(np.abs(np.asarray(model(pixels, training=False)) - head.predict_proba(rows)).max())
