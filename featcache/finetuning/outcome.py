"""Outcome: what comes out of a fine-tuning, written and judged in the usual way.

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

from featcache.backbones import tuned_record
from featcache.backbones.tuned import export_tuned, write_backbone_record
from featcache.backbones.tuned_record import AGREEMENT, CLASSES, HEAD, read_tuned_record
from featcache.errors import FeatcacheError
from featcache.evaluation.comparison import Comparison, compare
from featcache.evaluation.evaluate import judge, prefixes
from featcache.evaluation.report import Report
from featcache.extraction.lookup import VectorSource
from featcache.features.features import Features
from featcache.features.store.records import Failure
from featcache.finetuning.graphs import Graphs, build_classifier, save_classifier
from featcache.finetuning.proofs import check_classifier
from featcache.finetuning.start import Start
from featcache.heads.dense_training import head_of
from featcache.heads.head import Head
from featcache.training.loop import Learned


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
    failures: the images that could not be used.
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
    failures: list[Failure]
    agreement: float
    about: dict[str, Any]
    seconds: float = 0.0


def write_outcome(
    start: Start, graphs: Graphs, learned: Learned, folder: Path, about: dict[str, Any]
) -> Tuned:
    """Write the backbone and the bare model; then extract, judge and prove what they give.

    Raises `FeatcacheError` where that fails, saying how to go on: the training is kept.
    """
    about = {**about, "learned": asdict(learned)}
    # Names no file: what an interrupted run left is about to be written over.
    write_backbone_record(graphs.network, folder, about)
    weights = export_tuned(graphs.network, folder)
    model = build_classifier(graphs.plain, start.features.recipe.decoding)
    saved = save_classifier(model, start.head.classes, folder)
    written = [weights.name, CLASSES, saved.name]
    write_backbone_record(graphs.network, folder, about, written)
    try:
        head, rows = _judged(start, graphs, folder, about)
        about[AGREEMENT] = check_classifier(saved, head, rows, start)
    except FeatcacheError as error:
        raise type(error)(
            f"the training is finished and kept in {folder} (the backbone's weights, "
            f"{saved.name}), but what it gives could not be proved: {error}\n"
            f"Run the same command again to go on from here, with --runtime tensorflow or openvino "
            f"if that may help: nothing is trained again"
        ) from error
    # Written again, with what only a finished one has.
    write_backbone_record(graphs.network, folder, about, [*written, HEAD])
    return _tuned(start, folder, head, rows, about)


def _judged(
    start: Start, graphs: Graphs, folder: Path, about: dict[str, Any]
) -> tuple[Head, Features]:
    """The head on the vectors of the new backbone, saved, and the rows that judge it."""
    features = _extracted(start, folder)
    head = _head(start, features, graphs, about)
    rows = features[_judging(start, features)]
    report = judge(head, rows, protocol=start.roles.protocol, remarks=start.roles.remarks)
    head = replace(head, metrics={**report.to_dict(), "frozen": start.report.to_dict()})
    return replace(head, path=head.save(folder / HEAD, base=folder)), rows


def is_finished(folder: Path) -> bool:
    """Whether a fine-tuning that ended well lies in a folder."""
    return tuned_record.has_ended_well(read_tuned_record(folder) or {})


def recall_outcome(start: Start, folder: Path) -> Tuned:
    """What an earlier run of the same settings wrote, judged again."""
    features, record = _extracted(start, folder), read_tuned_record(folder) or {}
    rows = features[_judging(start, features)]
    return _tuned(start, folder, Head.load(folder / HEAD), rows, record)


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
        failures=start.extraction.failures,
        agreement=about[AGREEMENT],
        about=about,
    )


def _extracted(start: Start, folder: Path) -> Features:
    """The plain features of all images by the new backbone."""
    plain = {"views": 0, "augment": None, "augment_all": False}
    return start.again(backbone=str(folder), weights=None, scale=None, size=None, **plain)


def _head(start: Start, features: Features, graphs: Graphs, about: dict[str, Any]) -> Head:
    """The Keras head as it is now, with everything needed to use it."""
    roles = start.roles
    # Without times: the same fine-tuning gives the same bytes.
    learned = {name: value for name, value in about["learned"].items() if name != "seconds"}
    settings = {"finetuned": {**about, "learned": learned}, "history": learned["history"]}
    used = prefixes(start.features.keys[roles.used(start.features)])
    return Head(
        kind="dense",
        model=head_of(graphs.head, start.layers.layers, settings),
        classes=start.head.classes,
        source=VectorSource.of(features),
        trained_on=np.union1d(start.head.trained_on, used),
        protocol=f"{roles.protocol}; fine-tuned from {about['unfreeze_from']} on",
        metrics={},
        versions={name: version(name) for name in ("featcache", "keras", "numpy")},
    )


def _judging(start: Start, features: Features) -> np.ndarray:
    """The rows of the same images as those that judged the frozen features."""
    same: np.ndarray = np.isin(features.names, start.features.names[start.roles.judge])
    return same
