"""featcache finetune"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli.console import answer, command, say, show, time_text
from featcache.cli.judgement import course_of, draw_album, draw_report
from featcache.cli.options import (
    BitDepth,
    Cache,
    FollowLinks,
    Images,
    Interpolation,
    Json,
    MaxPixels,
    Name,
    Plots,
    Pooling,
    Resize,
    Runtime,
    Scale,
    Size,
    StoredType,
    TestFrom,
    Threads,
    TrustModel,
    Weights,
    parse_size,
    path,
)
from featcache.cli.progress import progress_display
from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    from featcache.finetuning.outcome import Tuned

#: Options that are part of a head's recipe.
OF_THE_RECIPE = (
    "backbone", "weights", "scale", "layer", "pooling", "size", "resize", "interpolation",
    "bit_depth", "dtype",
)  # fmt: skip
_TRAINING, _CUT = "Training", "The frozen part"


def register(app: typer.Typer) -> None:
    app.command("finetune")(command(finetune))


def _training(words: str, default: str | bool = True) -> Any:
    return typer.Option(help=words, show_default=default, rich_help_panel=_TRAINING)


def _cut(words: str) -> Any:
    return typer.Option(help=words, rich_help_panel=_CUT)


def finetune(
    ctx: typer.Context,
    images: Images,
    out: Annotated[
        Path, typer.Option(help="The folder of everything that comes out.", parser=path)
    ],
    backbone: Annotated[
        str | None, typer.Option(help="The network, such as vgg16, or a model's path.")
    ] = None,
    head: Annotated[
        str,
        typer.Option(help="A saved head, whose recipe is used; or a kind, which is fitted first."),
    ] = "logreg",
    unfreeze_from: Annotated[
        str | None,
        _training("First layer that learns: name, alias, number, -20, or all.", "the top quarter"),
    ] = None,
    epochs: Annotated[int, _training("How many epochs are added to the head's own.")] = 10,
    learning_rate: Annotated[float, _training("Step size of the optimizer.")] = 1e-5,
    optimizer: Annotated[str, _training("rmsprop, adam or sgd.")] = "rmsprop",
    batch_size: Annotated[int, _training("Images in a step.")] = 32,
    steps_per_epoch: Annotated[
        int | None, _training("Batches in an epoch.", "every image once")
    ] = None,
    label_smoothing: Annotated[
        float, _training("Share of a label that is spread over all classes: 0, or below 1.")
    ] = 0.0,
    class_weight: Annotated[
        str, _training("balanced: every class counts the same; none: every row.")
    ] = "none",
    patience: Annotated[
        int | None, _training("Stop after N epochs without a better validation loss.", "never")
    ] = None,
    stop_at: Annotated[
        float | None,
        _training("Stop when training and validation accuracy both reach it.", "never"),
    ] = None,
    batch_norm: Annotated[
        bool,
        typer.Option(
            "--batch-norm",
            help="Let BatchNorm follow the batches, and dropout drop.",
            show_default="neither",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    mixed_precision: Annotated[
        str | None, _training("float16 or bfloat16, for a GPU.", "float32")
    ] = None,
    augment: Annotated[
        str, _training("What varies from epoch to epoch: classic, flip-rotate, ...", "nothing")
    ] = "",
    seed: Annotated[
        int, _training("Decides which images are held out, and every random number.")
    ] = 0,
    from_cut: Annotated[
        str, _cut("Run it once and cache its activations: auto, yes or no.")
    ] = "auto",
    cut_dtype: Annotated[str, _cut("float16 or float32: how activations are stored.")] = "float16",
    views: Annotated[
        int, typer.Option(min=0, help="Cached views by --augment, instead of one an epoch.",
                          rich_help_panel=_CUT)
    ] = 0,
    weights: Weights = None,
    scale: Scale = None,
    trust_model: TrustModel = False,
    layer: Annotated[
        str, typer.Option(help="The layer that the head reads.", show_default="its output")
    ] = "",
    pooling: Pooling = "avg",
    size: Size = None,
    resize: Resize = "squash",
    interpolation: Interpolation = "area",
    bit_depth: BitDepth = "16",
    dtype: StoredType = "float32",
    runtime: Runtime = "auto",
    threads: Threads = None,
    max_pixels: MaxPixels = 64_000_000,
    cache: Cache = None,
    name: Name = None,
    test_from: TestFrom = None,
    plots: Plots = None,
    follow_symlinks: FollowLinks = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Train the top of a backbone too, starting from a head on its cached features.

    What comes out is a backbone like any other (--backbone OUT), its head (predict OUT IMAGES),
    and both as one Keras model. A run that was killed goes on from its last epoch.
    """
    values = dict(locals())
    recipe = _recipe_options(ctx, values)
    from featcache.finetuning.finetune import finetune as tune

    same = (
        "epochs", "learning_rate", "optimizer", "batch_size", "steps_per_epoch", "label_smoothing",
        "class_weight", "patience", "stop_at", "batch_norm", "mixed_precision", "augment", "seed",
        "unfreeze_from", "from_cut", "cut_dtype", "views", "trust_model", "runtime", "threads",
        "max_pixels", "cache", "name", "test_from", "follow_symlinks",
    )  # fmt: skip
    with progress_display() as progress:
        tuned = tune(
            images,
            out=out,
            head=head,
            say=say,
            progress=progress,
            **recipe,
            **{option: values[option] for option in same},
        )
    drawn = _draw(tuned, plots)
    if json:
        answer({**_record(tuned), "plots": drawn})
    else:
        _show(tuned, images)


def _recipe_options(ctx: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """The recipe's options; none where a saved head brings its own."""
    from featcache.finetuning.graphs import LAYERED
    from featcache.heads.kinds import HEADS

    given = [name for name in OF_THE_RECIPE if _is_given(ctx, name)]
    if values["head"] not in HEADS:
        # The weights may have moved; whether they are still the same is checked.
        others = [name for name in given if name != "weights"]
        if others:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in others)
            raise FeatcacheError(
                f"{flags}: the head {values['head']} was fitted on features of its own recipe, "
                f"which is used: leave them out, or name a kind of head ({', '.join(LAYERED)})"
            )
        return {"weights": values["weights"]} if given else {}
    if values["backbone"] is None:
        raise FeatcacheError(
            "--backbone: which network shall be fine-tuned? Name one, such as vgg16, or give "
            "--head FILE, a head that `featcache fit-head` saved"
        )
    size = values["size"]
    return {
        **{name: values[name] for name in OF_THE_RECIPE},
        "size": None if size is None else parse_size(size),
    }


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _draw(tuned: Tuned, plots: str | None) -> list[str]:
    drawn = draw_report(tuned.report, plots, course_of(tuned.head))
    return drawn + draw_album(tuned.head, tuned.judged, plots)


def _show(tuned: Tuned, images: str) -> None:
    from featcache.backbones.tuned_record import MODEL

    for remark in tuned.report.remarks:
        say(f"note: {remark}")
    folder = quote(str(tuned.folder))
    trust = " --trust-model" if (tuned.folder / MODEL).is_file() else ""
    show(f"backbone   {tuned.folder} (--backbone {folder}{trust} in extract)")
    show(f"head       {tuned.head.path} (featcache predict {folder} {quote(images)}{trust})")
    show(
        f"model      {tuned.folder / 'classifier.keras'} (uint8 pixels in, probabilities out; as "
        f"predict to {tuned.agreement:.0e})"
    )
    for words, report in (("frozen", tuned.frozen), ("fine-tuned", tuned.report)):
        low, high = report.interval
        show(
            f"{words:<11}accuracy {report.accuracy:.4f} on {report.rows:,} images (95 % interval "
            f"{low:.4f} to {high:.4f})"
        )
    low, high = tuned.comparison.interval
    show(
        f"difference {tuned.comparison.difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f}, "
        f"the same images)"
    )
    show(f"protocol   {tuned.report.protocol}")
    show(f"time       {time_text(tuned.seconds)}")


def _record(tuned: Tuned) -> dict[str, Any]:
    learned = asdict(tuned.learned)
    return {
        **tuned.report.to_dict(),
        "frozen": tuned.frozen.to_dict(),
        "comparison": tuned.comparison.to_dict(),
        "out": str(tuned.folder),
        "head": str(tuned.head.path),
        "agreement": tuned.agreement,
        "failed": len(tuned.failures),
        "failures": [asdict(failure) for failure in tuned.failures],
        "epoch_seconds": [round(each, 3) for each in learned.pop("seconds")],
        **learned,
        **{name: tuned.about[name] for name in ("unfreeze_from", "cut", "parameters", "start")},
        "seconds": round(tuned.seconds, 3),
    }
