"""featcache fit-head, evaluate, predict"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli.console import answer, command, say, show, table, time_text
from featcache.cli.options import (
    Batch,
    Cache,
    FeaturesName,
    FollowLinks,
    HeadFile,
    Images,
    Json,
    Threads,
)
from featcache.errors import FeatcacheError, ImageFailure, StorageFailure

if TYPE_CHECKING:
    from featcache.evaluation import Report
    from featcache.heads.head import Prediction

#: Classes whose confusion matrix is printed; --json always has it.
WIDEST = 20


def register(app: typer.Typer) -> None:
    app.command("fit-head")(command(fit_head))
    app.command("evaluate")(command(evaluate))
    app.command("predict")(command(predict))


def fit_head(
    features: FeaturesName,
    head: Annotated[str, typer.Option(help="The kind of head: logreg.")] = "logreg",
    c: Annotated[
        float | None,
        typer.Option("--C", help="Inverse penalty.", show_default="by cross-validation"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which rows are held out, if no split says so.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="The head's file.", show_default="beside its features")
    ] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Train a head on cached vectors and judge it on rows it has not seen."""
    from featcache.api import load
    from featcache.fitting import fit

    fitted = fit(load(features, cache=cache), head=head, C=c, seed=seed, out=out, say=say)
    report = fitted.report
    if json:
        answer(
            {
                **report.to_dict(),
                "head": str(fitted.head.path),
                "seconds": round(fitted.seconds, 3),
                "settings": fitted.head.model.settings,
            }
        )
        return
    show(f"head       {fitted.head.path}")
    _show_report(report)
    show(f"time       {time_text(fitted.seconds)}")


def evaluate(
    head: HeadFile,
    features: FeaturesName,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test.", show_default="test, else validation"),
    ] = None,
    average_views: Annotated[
        bool,
        typer.Option("--average-views", help="Judge the mean over an image's augmented views."),
    ] = False,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Judge a saved head on features: rows it was trained on are left out."""
    from featcache.api import load
    from featcache.evaluation import evaluate as judge
    from featcache.heads import Head

    report = judge(
        Head.load(head), load(features, cache=cache), split=split, average_views=average_views
    )
    if json:
        answer(report.to_dict())
        return
    _show_report(report)
    table(
        [
            (s.name, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", s.support)
            for s in report.per_class
        ],
        ("class", "precision", "recall", "f1", "images"),
    )
    if len(report.classes) <= WIDEST:
        show("\nconfusion (row: true class, column: predicted)")
        table(
            [(name, *row) for name, row in zip(report.classes, report.confusion, strict=True)],
            ("", *[name[:8] for name in report.classes]),
        )


def _show_report(report: Report) -> None:
    for remark in report.remarks:
        say(f"note: {remark}")
    show(f"accuracy   {report.accuracy:.4f} on {report.rows:,} images")
    show(f"baseline   {report.baseline:.4f} (always {report.baseline_class!r})")
    show(f"protocol   {report.protocol}")


def predict(
    head: HeadFile,
    images: Images,
    top: Annotated[int, typer.Option(min=1, help="Classes named for an image.")] = 1,
    out: Annotated[
        str | None, typer.Option(help="Write a .csv or .json file instead of printing.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The weights file, if it is not where it lay at fitting."),
    ] = None,
    batch: Batch = None,
    threads: Threads = None,
    cache: Cache = None,
    follow_symlinks: FollowLinks = False,
    json: Json = False,
) -> None:
    """Images in, class names and probabilities out."""
    import joblib

    from featcache.heads import Head
    from featcache.images import find_images

    saved = Head.load(head)
    found = find_images(images, follow_symlinks=follow_symlinks)
    stream = saved.predict_stream(
        found,
        top=top,
        cache=cache,
        weights=weights,
        batch=batch,
        threads=threads or joblib.cpu_count(),
        say=say,
    )
    tally = _Tally(stream)
    if json:
        predictions = [_plain(prediction) for prediction in tally]
        tally.require_success()
        answer({"predictions": predictions, "failed": tally.failed, "head": str(head)})
    elif out:
        _write(Path(out), tally, min(top, len(saved.classes)))
        tally.require_success()
        show(f"{tally.done - tally.failed:,} predictions in {out}, {tally.failed} images failed")
    else:
        _print(tally)
        tally.require_success()


class _Tally:
    """Counts predictions as they stream by, and tells about images that failed."""

    def __init__(self, stream: Iterable[Prediction]) -> None:
        self.stream, self.done, self.failed, self.example = stream, 0, 0, ""

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self.stream:
            self.done += 1
            if prediction.failure:
                self.failed += 1
                self.example = f"{prediction.name}: {prediction.failure}"
                say(f"failed: {self.example}")
            yield prediction

    def require_success(self) -> None:
        if self.done == self.failed:
            raise ImageFailure(f"not one of {self.done} images could be used: {self.example}")


def _print(predictions: Iterable[Prediction]) -> None:
    for prediction in predictions:
        if not prediction.failure:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            show(f"{prediction.name}  " + "  ".join(f"{name} {p:.3f}" for name, p in pairs))


def _write(path: Path, predictions: Iterable[Prediction], top: int) -> None:
    if path.suffix.lower() not in (".csv", ".json"):
        raise FeatcacheError(f"--out {path}: expected a name that ends in .csv or .json")
    with _whole_file(path) as file:
        if path.suffix.lower() == ".json":
            _write_json(file, predictions)
        else:
            _write_csv(file, predictions, top)


def _write_json(file: IO[str], predictions: Iterable[Prediction]) -> None:
    from json import dumps

    separator = "[\n"
    for prediction in predictions:
        file.write(separator + dumps(_plain(prediction), ensure_ascii=False))
        separator = ",\n"
    file.write("\n]\n")


def _write_csv(file: IO[str], predictions: Iterable[Prediction], top: int) -> None:
    writer = csv.writer(file)
    columns = [f"{what}_{n}" for n in range(1, top + 1) for what in ("class", "probability")]
    writer.writerow(["path", *columns, "failure"])
    for prediction in predictions:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        cells: list[Any] = [cell for name, p in pairs for cell in (_cell(name), f"{p:.6f}")]
        cells += [""] * (2 * top - len(cells))
        writer.writerow([_cell(prediction.name), *cells, _cell(prediction.failure)])


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when it is complete."""
    draft = path.with_name(f".tmp-{path.name}")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            yield file
        draft.replace(path)
    except OSError as error:
        raise StorageFailure(f"cannot write {path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _cell(text: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _plain(prediction: Prediction) -> dict[str, Any]:
    record: dict[str, Any] = {"path": prediction.name}
    if prediction.failure:
        return {**record, "failure": prediction.failure}
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return {**record, "top": [{"class": name, "probability": p} for name, p in pairs]}
