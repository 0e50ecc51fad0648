"""featcache finetune"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show, time_text
from featcache.cli.judgement import draw_judged
from featcache.cli.progress import progress_display
from featcache.finetuning.options import CutOptions, FinetuneOptions, TrainingOptions

if TYPE_CHECKING:
    from featcache.finetuning.outcome import Tuned

#: Options of `featcache.finetune` that are its keywords alone.
OF_PYTHON = ("precision", "batch", "on_error", "retry_failed", "rehash", *o.LISTS)


def register(app: typer.Typer) -> None:
    app.command("finetune")(command(finetune))


@o.with_options(
    FinetuneOptions,
    but=OF_PYTHON,
    before={"layer": "pooling", "plots": "follow_symlinks"},
    panels={TrainingOptions: "Training", CutOptions: "The frozen part"},
)
def finetune(
    images: o.Images,
    out: Annotated[
        Path, typer.Option(help="The folder of everything that comes out.", parser=o.path)
    ],
    backbone: Annotated[
        str | None, typer.Option(help="The network, such as vgg16, or a model's path.")
    ] = None,
    head: Annotated[
        str,
        typer.Option(help="A saved head, whose recipe is used; or a kind, which is fitted first."),
    ] = "logreg",
    layer: Annotated[
        str, typer.Option(help="The layer that the head reads.", show_default="its output")
    ] = "",
    plots: o.Plots = None,
    *,
    json: o.Json = False,
    **options: Unpack[FinetuneOptions],
) -> None:
    """Train the top of a backbone too, starting from a head on its cached features.

    What comes out is a backbone like any other (--backbone OUT), its head (predict OUT IMAGES),
    and both as one Keras model. A run that was killed goes on from its last epoch.
    """
    from featcache.finetuning.finetune import finetune as tune

    with progress_display() as progress:
        tuned = tune(images, out=out, backbone=backbone, layer=layer, head=head,
                     say=say, progress=progress, **options)  # fmt: skip
    drawn = draw_judged(tuned, plots)
    if json:
        answer({**_record(tuned), "plots": drawn})
    else:
        _show(tuned, images)


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
