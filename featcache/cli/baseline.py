"""featcache baseline"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, say_counts, show, time_text
from featcache.cli.judgement import Course, draw_report, show_report
from featcache.files.write import check_output

if TYPE_CHECKING:
    from featcache.fitting.baseline import Baseline


def register(app: typer.Typer) -> None:
    app.command("baseline")(command(baseline))


def baseline(
    images: o.Images,
    size: Annotated[str, typer.Option(help="Input size in pixels: S or HxW.")] = "150",
    epochs: Annotated[int, typer.Option(help="How many epochs at most.")] = 15,
    batch_size: Annotated[int, typer.Option(help="Images in a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Step size of the optimizer.")] = 1e-3,
    optimizer: Annotated[str, typer.Option(help="rmsprop, adam or sgd.")] = "rmsprop",
    steps_per_epoch: Annotated[
        int | None, typer.Option(help="Batches in an epoch.", show_default="every image once")
    ] = None,
    augment: Annotated[
        str,
        typer.Option(
            help="What may change in training images: flip,rotate=40,... or a preset.",
            show_default="nothing",
        ),
    ] = "",
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after N epochs without a better validation loss.", show_default="never"
        ),
    ] = None,
    stop_at: Annotated[
        float | None,
        typer.Option(
            help="Stop when training and validation accuracy both reach it.", show_default="never"
        ),
    ] = None,
    class_weight: Annotated[
        str, typer.Option(help="balanced: every class counts the same; none.")
    ] = "none",
    seed: Annotated[
        int, typer.Option(min=0, help="Decides which images are held out, and every random number.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Save the network as a .keras file.")
    ] = None,
    plots: o.Plots = None,
    test_from: o.TestFrom = None,
    threads: o.Threads = None,
    max_pixels: o.MaxPixels = o.MAX_PIXELS,
    follow_symlinks: o.FollowLinks = False,
    folders: o.Folders = None,
    splits_from_folders: o.SplitsFromFolders = False,
    ignore: o.Ignore = None,
    json: o.Json = False,
) -> None:  # fmt: skip
    """Train a small network from scratch on the images, to see what a pretrained one is worth.

    Three blocks of a 3x3 convolution (16, 32, 64 filters) and a 2x2 pooling, a dense layer of 512
    units, and the classes. The images are split, and the network is judged, as fit-head does it.
    """
    import joblib

    from featcache.fitting.baseline import BaselinePlan, train_baseline
    from featcache.images import find_images
    from featcache.training.options import LearningOptions

    options = LearningOptions(
        optimizer=optimizer, learning_rate=learning_rate, epochs=epochs, batch_size=batch_size,
        patience=patience, stop_at=stop_at, seed=seed, steps_per_epoch=steps_per_epoch,
    )  # fmt: skip
    plan = BaselinePlan(
        o.parse_size(size), augment, options, out, threads or joblib.cpu_count(),
        max_pixels, class_weight, test_from or "",
    )  # fmt: skip
    found = find_images(
        images,
        follow_symlinks=follow_symlinks,
        folders=folders or ("split/class" if splits_from_folders else None),
        ignore=ignore or (),
    )
    for remark in found.remarks:
        say(f"note: {remark}")
    say_counts(found)
    if out:
        check_output(out, [images, *found.files()])
    trained = train_baseline(found, plan, say=say)
    course = Course(trained.learned.history, trained.learned.best_epoch)
    drawn = draw_report(trained.report, plots, course)
    if json:
        answer({**_record(trained), "plots": drawn, "model": str(out) if out else None,
                "size": list(plan.size), "counts": found.counts(),
                "settings": {"augment": augment, "class_weight": class_weight,
                             "test_from": test_from, **asdict(options)}})  # fmt: skip
        return
    if out:
        show(f"model      {out} (pixels 0 to 255 in, probabilities of {_listed(trained)} out)")
    show_report(trained.report)
    show(f"time       {time_text(trained.seconds)}")
    more = f" --test-from {test_from}" if test_from else ""
    show(
        f"for        comparison: `featcache extract {images} --backbone efficientnet_lite0{more}` "
        f"and",
        f"           `featcache fit-head {found.name}` show what a pretrained network makes "
        f"of the same images",
    )


def _record(trained: Baseline) -> dict[str, Any]:
    learned = trained.learned
    return {
        **trained.report.to_dict(),
        "parameters": trained.parameters,
        "history": learned.history,
        "best_epoch": learned.best_epoch,
        "epochs": learned.epochs_run,
        "epoch_seconds": [round(seconds, 3) for seconds in learned.seconds],
        "trouble": learned.trouble,
        "failed": len(trained.failures),
        "failures": [{"path": name, "message": why} for name, why in trained.failures],
        "seconds": round(trained.seconds, 3),
    }


def _listed(trained: Baseline) -> str:
    names = trained.classes
    return ", ".join(names) if len(names) <= 10 else f"{len(names)} classes by their names' order"
