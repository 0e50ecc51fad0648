"""Pictures: one whole PNG each, legible at any number of classes, whatever the names are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featcache.errors import FeatcacheError, StorageFailure
from featcache.evaluation.plots.curves import (
    _remarks,
    draw_history,
    draw_learning_curve,
    draw_sweep,
)
from featcache.evaluation.plots.pictures import draw_predictions
from featcache.evaluation.plots.reports import draw_confusion, draw_reliability, plots_of_report

HISTORY = {"loss": [1.0, 0.5, 0.4], "val_loss": [1.1, 0.7, 0.6], "accuracy": [0.5, 0.7, 0.8]}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture.convert("RGB"))


def confusion(classes: int) -> np.ndarray:
    return np.eye(classes, dtype=int) * 90 + np.roll(np.eye(classes, dtype=int), 1, axis=1) * 10


@pytest.mark.parametrize("classes", [1, 2, 10, 100, 300])
def test_a_confusion_matrix_has_room_for_its_classes(classes, tmp_path):
    """Each class gets pixels of its own, and the picture stays one that a screen can show."""
    names = [f"kind {number}" for number in range(classes)]
    picture = pixels(draw_confusion(confusion(classes), names, tmp_path / "c.png"))
    assert min(picture.shape[:2]) >= 4 * classes
    assert max(picture.shape[:2]) <= 2400


def test_the_edges_of_a_confusion_matrix_stay_white(tmp_path):
    """Nothing is cut off: the outermost pixels are background, with long names too."""
    for classes in (2, 12, 60):
        names = [f"a rather long name of a class {number}" for number in range(classes)]
        drawn = draw_confusion(confusion(classes), names, tmp_path / "c.png", heading="accuracy")
        picture = pixels(drawn)
        for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
            assert (edge == 255).all(), classes


def test_names_of_any_kind_are_drawn_as_they_are(tmp_path):
    """Dollar signs are no formula; control characters and foreign scripts do no harm."""
    names = ["$x^2", "猫", "a\nb\x1b[31m", "x" * 500]
    draw_confusion(confusion(4), names, tmp_path / "c.png", heading="$")
    bars = [(name, "logreg", 0.5, (0.4, 0.6)) for name in names]
    draw_sweep(bars, tmp_path / "s.png", heading="$a_b " * 30)
    draw_predictions([np.zeros((8, 8, 3))] * 4, names, names[::-1], tmp_path / "p.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_class_without_images_is_no_division_by_zero(tmp_path):
    """A class that no image belongs to has a grey row, not a warning."""
    counts = confusion(3)
    counts[1] = 0
    draw_confusion(counts, ["a", "b", "c"], tmp_path / "c.png")


def test_wrong_and_right_predictions_look_different(tmp_path):
    """A wrong name is told from a right one by more than its colour: the true name stands below."""
    picture = [np.full((40, 40, 3), 128, np.uint8)] * 9
    right = pixels(draw_predictions(picture, ["cat"] * 9, ["cat"] * 9, tmp_path / "a.png"))
    wrong = pixels(draw_predictions(picture, ["cat"] * 9, ["dog"] * 9, tmp_path / "b.png"))
    ink = [(drawn.min(axis=2) < 90).sum() for drawn in (right, wrong)]
    assert ink[1] > ink[0]


def test_the_kept_epoch_is_seen(tmp_path):
    """A line stands at the epoch whose weights the head has, and moves with it."""
    second, third = (
        pixels(draw_history(HISTORY, tmp_path / "h.png", kept=kept)) for kept in (2, 3)
    )
    plain = pixels(draw_history(HISTORY, tmp_path / "h.png"))
    assert (second != third).any()
    assert (second != plain).any()


def bins_at(accuracy: float, path: Path) -> np.ndarray:
    """The picture of ten bins of many images, all of one accuracy: markers without bars."""
    bins = [(x, accuracy, 100_000) for x in np.linspace(0.05, 0.95, 10).tolist()]
    return pixels(draw_reliability(bins, path))


def test_nothing_covers_or_joins_the_points_of_a_reliability_diagram(tmp_path):
    """Among points at the top there is no letter of a legend, and between them no line."""
    high, low = (bins_at(accuracy, tmp_path / "r.png") for accuracy in (0.95, 0.05))
    where = (high != low).any(axis=2)
    rows, columns = np.nonzero(where[: int(0.4 * len(where))])
    band = high[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert band.max(axis=2).min() > 90
    orange = np.abs(band.astype(int) - [213, 94, 0]).sum(axis=2) < 60
    assert 0.05 < orange.any(axis=0).mean() < 0.5


@pytest.mark.parametrize("mark", [None, 1])
def test_curves_and_reliability_are_drawn(mark, tmp_path):
    """Histories with and without a mark, one epoch, bins with none in them, one candidate."""
    assert draw_history(HISTORY, tmp_path / "h.png", mark=mark).is_file()
    assert draw_history({"loss": [1.0]}, tmp_path / "one.png", mark=mark).is_file()
    bins = [(0.0, 0.0, 0), (0.5, 0.4, 10), (0.95, 1.0, 1)]
    assert draw_reliability(bins, tmp_path / "r.png").is_file()
    one = draw_learning_curve([10], [0.5], [(0.4, 0.6)], tmp_path / "l.png")
    assert one.is_file()


def test_a_sweep_says_that_its_winner_is_one_of_equals(tmp_path):
    """Below the axis, as taller pictures show; a single best needs no words."""
    bars = [(name, "knn", 0.5, (0.4, 0.6)) for name in "abc"]
    tie = draw_sweep(bars, tmp_path / "tie.png")
    bars[0] = ("a", "knn", 0.55, (0.4, 0.6))
    plain = draw_sweep(bars, tmp_path / "plain.png")
    dark = [(pixels(each)[-30:].min(axis=2) < 90).sum() for each in (tie, plain)]
    assert dark[0] != dark[1]
    assert "3 share the best accuracy" in _remarks([("a", "knn", 0.5, (0, 1))] * 3)
    assert not _remarks(bars)


@dataclass
class Judged:
    """As much of a report as is drawn."""

    accuracy: float
    rows: int
    classes: list[str]
    confusion: list[list[int]]
    reliability: list[tuple[float, float, int]]


def test_a_report_gets_the_pictures_it_has_something_for(tmp_path):
    """Confusion always; reliability with bins, of the report or given; history with epochs."""
    report = Judged(0.9, 200, ["a", "b"], confusion(2).tolist(), [])
    assert [each.name for each in plots_of_report(report, tmp_path / "x" / "y")] == [
        "confusion.png"
    ]
    report.reliability = [(0.9, 0.8, 10)]
    drawn = plots_of_report(report, tmp_path, history=HISTORY, mark=1, kept=3)
    assert [each.name for each in drawn] == ["confusion.png", "reliability.png", "history.png"]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda path: draw_confusion(confusion(3), ["a", "b"], path), "square"),
        (lambda path: draw_confusion(np.zeros((0, 0)), [], path), "at least one"),
        (lambda path: draw_history({}, path), "no epoch"),
        (lambda path: draw_reliability([(0, 0, 0)], path), "at least one bin"),
        (lambda path: draw_learning_curve([1], [], [], path), "as many scores"),
        (lambda path: draw_sweep([], path), "no candidate"),
        (lambda path: draw_predictions([], [], [], path), "at least one"),
        (lambda path: draw_confusion(confusion(2), ["a", "b"], path / "x.jpg"), ".png"),
    ],
)
def test_nothing_to_draw_is_a_sentence_and_no_file(draw, words, tmp_path):
    """What cannot be drawn is refused, and no file is left behind."""
    with pytest.raises(FeatcacheError, match=words):
        draw(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """--plots onto a file: the message says which."""
    (tmp_path / "taken").write_text("")
    report = Judged(0.9, 200, ["a", "b"], confusion(2).tolist(), [])
    with pytest.raises(StorageFailure, match="taken"):
        plots_of_report(report, tmp_path / "taken" / "pictures")
