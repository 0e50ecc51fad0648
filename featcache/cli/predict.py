"""featcache predict: lines, a CSV or JSON file, or one JSON object; and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, json_text, say, show
from featcache.errors import FeatcacheError, ImageFailure
from featcache.files.write import check_output, whole_text

if TYPE_CHECKING:
    from featcache.heads.head import Prediction


def register(app: typer.Typer) -> None:
    app.command("predict")(command(predict))


def predict(
    head: o.HeadFile,
    images: o.Images,
    top: Annotated[int, typer.Option(min=1, help="Classes named for an image.")] = 1,
    out: Annotated[
        str | None, typer.Option(help="Write a .csv or .json file instead of printing.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The weights file or model, if it is not where it lay at fitting."),
    ] = None,
    trust_model: o.TrustModel = False,
    batch: o.Batch = None,
    threads: o.Threads = None,
    cache: o.Cache = None,
    follow_symlinks: o.FollowLinks = False,
    pages: o.Pages = "first",
    json: o.Json = False,
) -> None:
    """Images in, class names and probabilities out."""
    import joblib

    from featcache.heads.head import Head
    from featcache.images import NONE, find_images
    from featcache.images.first_look import require_an_image

    saved = Head.load(head)
    found = find_images(images, follow_symlinks=follow_symlinks, folders=NONE, pages=pages)
    require_an_image(found)
    stream = saved.predict_stream(
        found,
        top=top,
        cache=cache,
        weights=weights,
        trust_model=trust_model,
        batch=batch,
        threads=threads or joblib.cpu_count(),
        say=say,
    )
    inputs = [images, *found.files(), str(head)]
    top = min(top, len(saved.classes))
    deliver(stream, top=top, out=out, inputs=inputs, json=json, about={"head": str(head)})


def deliver(
    stream: Iterable[Prediction],
    *,
    top: int,
    out: str | None,
    inputs: Iterable[str],
    json: bool,
    about: dict[str, Any],
) -> None:
    """Print the predictions or write them to `out`; `about` goes into the JSON object.

    `inputs` are the files that the command reads: `out` is none of them.

    With `out` the JSON object has their number instead, and no memory grows with it.

    Raises `ImageFailure` where not one image could be used, `StorageFailure` where `out` cannot
    be written.
    """
    tally = _Tally(stream)
    if out:
        check_output(Path(out), inputs)
        _write(Path(out), tally, top)
        tally.require_success()
        predicted = tally.done - tally.failed
        if json:
            answer({"out": out, "predicted": predicted, "failed": tally.failed, **about})
        else:
            show(f"{predicted:,} predictions in {out}, {tally.failed} images failed")
    elif json:
        # One object, whole or not at all: it has to wait for the last image.
        predictions = [_plain(prediction) for prediction in tally]
        tally.require_success()
        answer({"predictions": predictions, "failed": tally.failed, **about})
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
    with whole_text(path) as file:
        if path.suffix.lower() == ".json":
            _write_json(file, predictions)
        else:
            _write_csv(file, predictions, top)


def _write_json(file: IO[str], predictions: Iterable[Prediction]) -> None:
    separator = "[\n"
    for prediction in predictions:
        file.write(separator + json_text(_plain(prediction)))
        separator = ",\n"
    file.write("\n]\n")


def _write_csv(file: IO[str], predictions: Iterable[Prediction], top: int) -> None:
    from featcache.images.csv_cells import csv_line, guarded

    columns = [f"{what}_{n}" for n in range(1, top + 1) for what in ("class", "probability")]
    file.write(csv_line(["path", *columns, "failure"], "\r\n"))
    for prediction in predictions:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        cells: list[Any] = [cell for name, p in pairs for cell in (guarded(name), f"{p:.6f}")]
        cells += [""] * (2 * top - len(cells))
        cells = [guarded(prediction.name), *cells, guarded(prediction.failure)]
        file.write(csv_line(cells, "\r\n"))


def _plain(prediction: Prediction) -> dict[str, Any]:
    record: dict[str, Any] = {"path": prediction.name}
    if prediction.failure:
        return {**record, "failure": prediction.failure}
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return {**record, "top": [{"class": name, "probability": p} for name, p in pairs]}
