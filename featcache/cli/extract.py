"""featcache extract, and the command that completes an extraction"""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, say_counts, show, size_text, time_text
from featcache.cli.progress import progress_display
from featcache.extraction.options import ExtractionOptions
from featcache.options import complete, flag

if TYPE_CHECKING:
    from featcache.extraction.job import Extraction, Job
    from featcache.features.finding import Entry
    from featcache.features.store.snapshot import Snapshot
    from featcache.recipe import Recipe


def register(app: typer.Typer) -> None:
    app.command("extract")(command(extract))


@o.with_options(
    ExtractionOptions, before={"layer": "pooling", "max_pixels": "views", "check": "cache"}
)
def extract(
    images: o.Images,
    backbone: Annotated[
        list[str],
        typer.Option(help="The network, such as vgg16, or a model's path; several in one pass."),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Tap this layer (NAME or NAME:POOLING); several in one pass.",
            show_default="its output",
        ),
    ] = None,
    check: Annotated[
        int,
        typer.Option(min=0, help="Compare so many of your images with the live Keras network."),
    ] = 0,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say rows, bytes and time; extract nothing.")
    ] = False,
    json: o.Json = False,
    **options: Unpack[ExtractionOptions],
) -> None:
    """Run a backbone once over images and keep its features.

    Run the same command again to go on after an interruption or to add new images: only images
    without a row go through the network.
    """
    from featcache.extraction.extract import prepare

    say(f"opening {', '.join(backbone)}")
    job = prepare(images, backbone=backbone, layer=layer or "", **options)
    _introduce(job)
    if dry_run:
        _dry_run(job, as_json=json)
    else:
        _run(job, check, as_json=json)


def _run(job: Job, check: int, *, as_json: bool) -> None:
    from featcache.extraction.job import failure_lines
    from featcache.extraction.live_check import check_rows
    from featcache.extraction.update import run_job

    with progress_display() as report:
        results = run_job(job, report)
    for remark in results[-1].remarks:
        say(f"note: {remark}")
    for line in failure_lines(results):
        say(line)
    errors = check_rows(job, results, check) if check else []
    if as_json:
        answer(_record(job, results, errors))
        return
    for result in results:
        _show_file(result)
    _show_run(results)
    for result, error in zip(results, errors, strict=False):
        show(
            f"check      {check} images of {result.target.recipe.tap}: "
            f"rows agree with live Keras to {error:.1e}"
        )


def _show_file(result: Extraction) -> None:
    recipe = result.target.recipe
    show(f"features   {result.path}")
    show(
        f"rows       {result.rows:,} x {result.dim:,} {recipe.dtype}: {result.extracted:,} "
        f"extracted, {result.reused:,} reused, {len(result.failures):,} images failed"
    )
    if result.parity is not None and result.rounding is not None:
        show(f"parity     {_parity_text(recipe.precision, result.parity, result.rounding)}")


def _show_run(results: list[Extraction]) -> None:
    """Speed, and what bound it; the same for all files of a run."""
    result = next((each for each in results if each.bound), results[-1])
    if result.bound is None:
        show(f"time       {time_text(result.seconds)}, {result.choice}")
        return
    speed = f"{result.images_per_second:.1f} images/s"
    show(f"speed      {speed}, {time_text(result.seconds)}, {result.choice}")
    bound = result.bound
    shares = ", ".join(f"{name} {share:.0%}" for name, share in bound.shares.items())
    show(
        f"bound by   {bound.by} (waited for: {shares}); reading and decoding kept "
        f"{sum(bound.cores.values()):.0%} of the cores busy. Faster with: {bound.advice}"
    )


def _parity_text(precision: str, error: float, rounding: float) -> str:
    if precision == "float32":
        own = f"live Keras itself is {rounding:.1e} from float64"
        return f"the probe agrees with live Keras to {error:.1e} ({own})"
    return f"{precision} differs from float32 by {error:.1e} on the probe"


def _record(job: Job, results: list[Extraction], errors: list[float]) -> dict[str, Any]:
    result = results[-1]
    recipe = result.target.recipe
    return {
        "features": str(result.path),
        "rows": result.rows,
        "extracted": result.extracted,
        "reused": result.reused,
        "failed": len(result.failures),
        "failures": [asdict(failure) for failure in result.failures],
        "seconds": round(result.seconds, 3),
        "images_per_second": round(result.images_per_second, 2),
        "bound": asdict(result.bound) if result.bound else None,
        "backbone": recipe.backbone,
        "key": recipe.key,
        "runtime": result.runtime,
        "precision": recipe.precision,
        "choice": result.choice,
        "dim": result.dim,
        "taps": {_tap_name(job, each): str(each.path) for each in results},
        "probe_error": result.parity,
        "rounding": result.rounding,
        "checked": [
            {"tap": _tap_name(job, each), "error": error}
            for each, error in zip(results, errors, strict=False)
        ],
        "remarks": result.remarks,
    }


def _tap_name(job: Job, result: Extraction) -> str:
    """The tap of a file, with its backbone where there are several."""
    several = len({target.recipe.backbone for target in job.targets}) > 1
    target = result.target
    return f"{target.recipe.backbone}/{target.recipe.tap}" if several else target.recipe.tap


def _introduce(job: Job) -> None:
    """Counts per class and split, before the wait begins."""
    say_counts(job.images)
    for target in job.targets:
        recipe, decoding = target.recipe, target.recipe.decoding
        say(
            f"{recipe.backbone} ({target.network.weights_hint} weights) at "
            f"{decoding.size[0]}x{decoding.size[1]}, {decoding.interpolation} interpolation, "
            f"{recipe.layer or 'its output'}, pooling {recipe.pooling}: "
            f"{job.rows:,} rows, {size_text(job.rows * target.row_bytes)}"
        )


def _dry_run(job: Job, *, as_json: bool) -> None:
    from featcache.extraction.estimate import estimate

    plan = estimate(job)
    files = [str(target.directory / "features.h5") for target in job.targets]
    if as_json:
        answer({**asdict(plan), "dry_run": True, "features": files[-1], "files": files})
        return
    for file, shape in zip(files, plan.row_shapes, strict=True):
        show(f"would write {file}: {plan.rows:,} rows of shape {shape}")
    show(f"images      {f'{plan.missing:,}' if plan.missing else 'nothing'} to extract")
    show(f"disk        {size_text(plan.bytes)}, {size_text(plan.bytes_free)} free")
    if plan.images_per_second:
        show(
            f"time        about {time_text(plan.seconds)} at {plan.images_per_second:.1f} "
            f"images/s, measured on {plan.measured_on} images"
        )


def finishing_command(entry: Entry, snapshot: Snapshot, cache: str | Path | None) -> str:
    """The `featcache extract` that completes an entry; "" where its images are not known.

    Where labels or splits came from options, these must be added.
    """
    from featcache.errors import FeatcacheError
    from featcache.features.cache import images_root, weights_hint
    from featcache.recipe import Recipe

    root = images_root(entry.directory)
    if not root:
        return ""
    try:
        recipe = Recipe.from_json(entry.recipe())
    except FeatcacheError:
        return ""
    manifest = Path(root) / f"{entry.data_set}.csv"
    images = manifest if manifest.is_file() else Path(root)
    words = ["featcache", "extract", str(images)]
    options = {
        **_network(recipe, weights_hint(entry.directory)),
        **_views(recipe, snapshot),
        "name": None if entry.data_set == images.stem else entry.data_set,
        "cache": None if cache is None else str(cache),
    }
    usual = {**complete(ExtractionOptions, {}), "layer": ""}
    for name, value in options.items():
        if value is not None and value != usual.get(name):
            words += [flag(name), str(value)]
    return shlex.join(words)


def _network(recipe: Recipe, hint: str) -> dict[str, Any]:
    """The options of a recipe; those that are usual for its backbone are None."""
    from featcache.backbones.table import BACKBONES
    from featcache.extraction.extract import extract_options_of

    options = extract_options_of(recipe, hint)
    backbone, (height, width) = BACKBONES.get(recipe.backbone), options["size"]
    options["size"] = str(height) if height == width else f"{height}x{width}"
    if backbone and (height, width) == (backbone.size, backbone.size):
        options["size"] = None
    if hint in ("imagenet", "embedded"):
        options["weights"] = None
    if recipe.runtime:
        options["runtime"] = recipe.runtime
    return options


def _views(recipe: Recipe, snapshot: Snapshot) -> dict[str, Any]:
    """How many views there are so far, where there are any."""
    if not recipe.augment:
        return {}
    count = int(snapshot.keys_and_views()[1].max(initial=0))
    return {"views": count or None, "augment": recipe.augment, "seed": recipe.seed}
