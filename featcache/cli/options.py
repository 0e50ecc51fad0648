"""Options that several commands share, with the words of their help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from featcache.errors import FeatcacheError


def path(text: str) -> Path:
    """A folder to write to: "", which `Path` takes for the current one, is a slip."""
    if not text:
        raise typer.BadParameter("the name is empty: write . for the current folder")
    return Path(text)


Images = Annotated[
    str, typer.Argument(help="A folder, a CSV manifest (path,label,split,group), or one image.")
]
FeaturesName = Annotated[
    str, typer.Argument(help="A name such as photos or photos/vgg16, or a path.")
]
HeadFile = Annotated[str, typer.Argument(help="A head that fit-head saved.")]
Cache = Annotated[
    str | None,
    typer.Option(help="The cache folder.", envvar="FEATCACHE_DIR", show_default="./cache"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="imagenet, random[:SEED], or the path of a weights file.",
        show_default="the backbone's ImageNet weights",
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(help="Pixels of a model of your own: 0..1, -1..1, caffe, torch or none."),
]
Pooling = Annotated[str, typer.Option(help="avg, max, or none (also: flatten) for the whole map.")]
Size = Annotated[
    str | None,
    typer.Option(help="Input size in pixels: S or HxW.", show_default="the backbone's own"),
]
Resize = Annotated[
    str, typer.Option(help="squash, crop, pad, or crop:0.875 (see docs/resizing.md).")
]
Page = Annotated[int, typer.Option(min=0, help="The page of a file of several (TIFF, DICOM).")]
Channels = Annotated[
    str | None,
    typer.Option(
        help="Channels as red, green, blue: 0,2,1; one as grey.", show_default="the image's colours"
    ),
]
Pages = Annotated[
    str, typer.Option(help="first: the page that --page says; each: a row of every page.")
]
Interpolation = Annotated[
    str, typer.Option(help="area, or keras: exactly image_dataset_from_directory's pixels.")
]
BitDepth = Annotated[str, typer.Option(help="White of 16-bit images: 9 to 16 bits, or minmax.")]
StoredType = Annotated[str, typer.Option(help="float32 or float16: how vectors are stored.")]
Runtime = Annotated[str, typer.Option(help="auto, tensorflow or openvino (for CPUs).")]
MaxPixels = Annotated[
    int, typer.Option(min=1, help="Larger images are refused (at 4 bytes a pixel).")
]
Name = Annotated[str | None, typer.Option(help="The data set's name.", show_default="the folder's")]
TestFrom = Annotated[
    str | None,
    typer.Option(help="Make part of a split the test split: validation:0.2."),
]
Plots = Annotated[str | None, typer.Option(help="Draw the report into this folder, as PNG files.")]
TrustModel = Annotated[
    bool,
    typer.Option("--trust-model", help="Run a .keras file or SavedModel: they are programs."),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, help="Images in a network call.", show_default="the runtime's best"),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads that read and decode.", show_default="the cores"),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-symlinks", help="Follow links to folders and out of the root.")
]


def parse_size(text: str) -> int | tuple[int, int]:
    """--size: S, or HEIGHTxWIDTH."""
    match = re.fullmatch(r"([0-9]{1,6})(?:[xX]([0-9]{1,6}))?", text)
    if not match:
        raise FeatcacheError(f"--size {text!r}: expected pixels such as 224, or HEIGHTxWIDTH")
    height, width = match.groups()
    return int(height) if width is None else (int(height), int(width))


def pair_of(text: str | None) -> tuple[int, int] | None:
    """--size as (height, width); None where it was not given."""
    if text is None:
        return None
    size = parse_size(text)
    return (size, size) if isinstance(size, int) else size
