"""featcache views"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, show
from featcache.errors import FeatcacheError, ImageFailure
from featcache.files.small_files import read_small
from featcache.files.write import check_output
from featcache.recipe import BitDepth, Decoding, Interpolation, parse_resize

if TYPE_CHECKING:
    from featcache.images.augment import Pixels

#: Pictures with a longer side would only be made smaller again.
LARGEST = 4096


def register(app: typer.Typer) -> None:
    app.command("views")(command(views))


def views(
    image: Annotated[str, typer.Argument(help="One image.")],
    augment: Annotated[
        str,
        typer.Option(help="What may change: flip,rotate=40,..., or the name of a preset."),
    ] = "classic",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other views.")] = 0,
    size: Annotated[str, typer.Option(help="Size in pixels: S or HxW.")] = "224",
    count: Annotated[int, typer.Option(min=1, max=400, help="Pictures, the plain one first.")] = 9,
    resize: Annotated[str, typer.Option(help="squash, crop, pad or crop:0.875.")] = "squash",
    interpolation: Annotated[Interpolation, typer.Option(help="As in extract.")] = "area",
    bit_depth: Annotated[BitDepth, typer.Option(help="As in extract.")] = "16",
    out: Annotated[Path, typer.Option(help="The PNG file.")] = Path("views.png"),
    json: o.Json = False,
) -> None:
    """Draw augmented views of an image as a picture, the plain one first, each with its number.

    These are the views that extract makes of this file with the same --augment, --seed, --size
    and --resize.
    """
    from featcache.evaluation.plots.pictures import draw_grid
    from featcache.images.augment import Augmentation, view

    check_output(out, [image])
    augmentation = Augmentation.parse(augment)
    geometry, share = parse_resize(resize)
    decoding = Decoding(_sides(size), geometry, interpolation, bit_depth, share)
    plain, key = _decode(image, decoding)
    pictures = [
        view(plain, augmentation, key=key, seed=seed, number=number) for number in range(count)
    ]
    titles = ["0 (plain)", *map(str, range(1, count))]
    draw_grid(pictures, titles, out, heading=f"{augmentation.spec}  seed {seed}")
    if json:
        answer({"out": str(out), "views": count, "augment": augmentation.spec, "seed": seed,
                "size": decoding.size})  # fmt: skip
    else:
        show(f"{count} pictures of {image} in {out}: {augmentation.spec}, seed {seed}")


def _decode(image: str, decoding: Decoding) -> tuple[Pixels, str]:
    """The plain pixels, and the SHA-256 of the file's bytes."""
    from hashlib import sha256

    from featcache.errors import BadImage
    from featcache.images.decoder import decode
    from featcache.images.file_bytes import MAX_BYTES

    try:
        raw = read_small(image, MAX_BYTES)
    except OSError as error:
        raise FeatcacheError(
            f"cannot read {image}: {error.strerror}; expected one image"
        ) from error
    try:
        return decode(raw, decoding).pixels, sha256(raw).hexdigest()
    except BadImage as error:
        raise ImageFailure(f"{image}: {error}") from error


def _sides(text: str) -> tuple[int, int]:
    height, width = o.parse_size(text)
    if not (1 <= height <= LARGEST and 1 <= width <= LARGEST):
        raise FeatcacheError(f"--size {text}: expected 1 to {LARGEST} pixels")
    return height, width
