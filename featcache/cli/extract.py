"""featcache extract"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli.console import answer, command, say, show, size_text, time_text
from featcache.cli.options import Batch, Cache, FollowLinks, Images, Json, Threads, Weights
from featcache.cli.progress import progress_display
from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    from featcache.estimate import Estimate
    from featcache.extraction import Extraction, Job

#: Failures named on the screen; all of them are in the file and in --json.
SHOWN = 10
#: Rows of the table of classes and splits that are printed.
COUNTED = 40


def register(app: typer.Typer) -> None:
    app.command("extract")(command(extract))


def extract(
    images: Images,
    backbone: Annotated[str, typer.Option(help="The network, such as vgg16 or resnet50.")],
    weights: Weights = None,
    layer: Annotated[
        str,
        typer.Option(help="Tap this layer (NAME or NAME:POOLING).", show_default="its output"),
    ] = "",
    pooling: Annotated[
        str, typer.Option(help="avg, max, or none (also: flatten) for the whole map.")
    ] = "avg",
    size: Annotated[
        str | None,
        typer.Option(help="Input size in pixels: S or HxW.", show_default="the backbone's own"),
    ] = None,
    resize: Annotated[str, typer.Option(help="squash, crop or pad.")] = "squash",
    interpolation: Annotated[
        str,
        typer.Option(help="area, or keras: exactly image_dataset_from_directory's pixels."),
    ] = "area",
    bit_depth: Annotated[
        str, typer.Option(help="How 16-bit images become 8-bit: 16, 12 or minmax.")
    ] = "16",
    dtype: Annotated[str, typer.Option(help="float32 or float16: how vectors are stored.")] = (
        "float32"
    ),
    precision: Annotated[
        str, typer.Option(help="float32, or where OpenVINO and the CPU can: bfloat16, float16.")
    ] = "float32",
    runtime: Annotated[str, typer.Option(help="auto, tensorflow or openvino (for CPUs).")] = "auto",
    batch: Batch = None,
    threads: Threads = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Images with more pixels are refused.")
    ] = 64_000_000,
    cache: Cache = None,
    name: Annotated[
        str | None, typer.Option(help="The data set's name.", show_default="the folder's")
    ] = None,
    test_from: Annotated[
        str | None,
        typer.Option(help="Make part of a split the test split: validation:0.2."),
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="skip: list images that fail and go on; fail: stop.")
    ] = "skip",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try images again that failed before.")
    ] = False,
    follow_symlinks: FollowLinks = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say rows, bytes and time; extract nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a backbone once over images and keep its features.

    Run the same command again to go on after an interruption or to add new images: only images
    without a row go through the network.
    """
    from featcache.api import prepare

    layer, pooling = _tap(layer, pooling)
    say(f"opening {backbone}")
    job = prepare(
        images,
        backbone=backbone,
        weights=weights,
        layer=layer,
        pooling=pooling,
        size=_size(size),
        resize=resize,  # type: ignore[arg-type]  # the recipe checks the choices
        interpolation=interpolation,  # type: ignore[arg-type]
        bit_depth=bit_depth,  # type: ignore[arg-type]
        dtype=dtype,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        runtime=runtime,
        batch=batch,
        threads=threads,
        max_pixels=max_pixels,
        cache=cache,
        name=name,
        test_from=test_from,
        on_error=on_error,
        retry_failed=retry_failed,
        follow_symlinks=follow_symlinks,
    )
    _introduce(job)
    if dry_run:
        _dry_run(job, as_json=json)
    else:
        _run(job, as_json=json)


def _run(job: Job, *, as_json: bool) -> None:
    from featcache.extraction import run

    with progress_display() as report:
        result = run(job, report)
    for remark in result.remarks:
        say(f"note: {remark}")
    for failure in result.failures[:SHOWN]:
        say(f"failed: {failure.path}: {failure.message}")
    if len(result.failures) > SHOWN:
        say(f"failed: {len(result.failures) - SHOWN} more, listed in /failed_path of the file")
    if as_json:
        answer(_record(job, result))
        return
    show(f"features   {result.path}")
    show(f"rows       {result.rows:,} x {result.dim:,} {job.recipe.dtype}")
    show(
        f"images     {result.extracted:,} extracted, {result.reused:,} reused, "
        f"{len(result.failures):,} failed"
    )
    if result.extracted:
        speed = f"{result.images_per_second:.1f} images/s"
        show(f"speed      {speed}, {time_text(result.seconds)}, {result.choice}")
        show(f"parity     {_parity_text(job.recipe.precision, result.parity or 0.0)}")
    else:
        show(f"time       {time_text(result.seconds)}, {result.choice}")


def _parity_text(precision: str, error: float) -> str:
    if precision == "float32":
        return f"probe agrees with live Keras to {error:.1e}"
    return f"{precision} differs from float32 by {error:.1e} on the probe"


def _record(job: Job, result: Extraction) -> dict[str, Any]:
    return {
        "features": str(result.path),
        "rows": result.rows,
        "extracted": result.extracted,
        "reused": result.reused,
        "failed": len(result.failures),
        "failures": [asdict(failure) for failure in result.failures],
        "seconds": round(result.seconds, 3),
        "images_per_second": round(result.images_per_second, 2),
        "backbone": job.recipe.backbone,
        "key": job.recipe.key,
        "runtime": result.runtime,
        "precision": job.recipe.precision,
        "choice": result.choice,
        "dim": result.dim,
        "taps": {job.recipe.layer or "output": str(result.path)},
        "probe_error": result.parity,
        "remarks": result.remarks,
    }


def _introduce(job: Job) -> None:
    """Counts per class and split, before the wait begins."""
    say(f"{job.images.name}: {len(job.images):,} images")
    for split, label, count in job.images.rows()[:COUNTED]:
        say(f"  {split or '-':<12}{label or '(no label)':<24}{count:>8,}")
    decoding = job.recipe.decoding
    say(
        f"{job.recipe.backbone} ({job.network.weights_hint} weights) at "
        f"{decoding.size[0]}x{decoding.size[1]}, "
        f"{decoding.interpolation} interpolation, pooling {job.recipe.pooling}"
    )


def _dry_run(job: Job, *, as_json: bool) -> None:
    from featcache.estimate import estimate

    plan = estimate(job)
    if as_json:
        answer({**asdict(plan), "dry_run": True, "features": str(job.directory / "features.h5")})
        return
    show(f"would write {job.directory / 'features.h5'}")
    show(f"rows        {plan.rows:,} of shape {plan.row_shape}, {_news(plan)}")
    show(f"disk        {size_text(plan.bytes)}, {size_text(plan.bytes_free)} free")
    if plan.images_per_second:
        show(
            f"time        about {time_text(plan.seconds)} at {plan.images_per_second:.1f} "
            f"images/s, measured on {plan.measured_on} images"
        )


def _news(plan: Estimate) -> str:
    return f"{plan.missing:,} to extract" if plan.missing else "nothing to extract"


def _tap(layer: str, pooling: str) -> tuple[str, str]:
    """NAME or NAME:POOLING."""
    name, colon, own = layer.rpartition(":")
    return (name, own) if colon else (layer, pooling)


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", text)
    if not match:
        raise FeatcacheError(f"--size {text!r}: expected pixels such as 224, or HEIGHTxWIDTH")
    height, width = match.groups()
    return int(height) if width is None else (int(height), int(width))
