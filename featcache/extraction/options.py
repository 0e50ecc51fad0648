"""The options of an extraction: the one list that `extract`, its command and others have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from featcache.options import Option
from featcache.recipe import BitDepth, Interpolation, Precision, StoredType


# fmt: off
class NetworkOptions(TypedDict, total=False):
    """How one image becomes a vector: what is in its recipe, and what computes it."""

    weights: Annotated[str | None, Option(
        None, "imagenet, random[:SEED], or the path of a weights file.",
        "the backbone's ImageNet weights")]
    scale: Annotated[str | None, Option(
        None, "Pixels of a model of your own: 0..1, -1..1, caffe, torch or none.")]
    trust_model: Annotated[bool, Option(
        False, "Run a .keras file or SavedModel: they are programs.")]
    pooling: Annotated[Literal["avg", "max", "none", "flatten"], Option(
        "avg", "avg, max, or none (also: flatten) for the whole map.")]
    size: Annotated[int | tuple[int, int] | None, Option(
        None, "Input size in pixels: S or HxW.", "the backbone's own")]
    resize: Annotated[str, Option(
        "squash", "squash, crop, pad, or crop:0.875 (see docs/resizing.md).")]
    interpolation: Annotated[Interpolation, Option(
        "area", "area, or keras: exactly image_dataset_from_directory's pixels.")]
    bit_depth: Annotated[BitDepth, Option(
        "16", "White of 16-bit images: 9 to 16 bits, or minmax (see docs/images.md).")]
    page: Annotated[int, Option(
        0, "The page of a file of several (TIFF, DICOM); the first is 0.", least=0)]
    channels: Annotated[str | int | Sequence[int] | None, Option(
        None, "Channels as red, green and blue: 0,2,1; one as grey.", "the image's colours")]
    dtype: Annotated[StoredType, Option("float32", "float32 or float16: how vectors are stored.")]
    precision: Annotated[Precision, Option(
        "float32", "float32; bfloat16 or float16 where the CPU or the GPU has it.")]
    runtime: Annotated[Literal["auto", "tensorflow", "openvino"], Option(
        "auto", "auto, tensorflow or openvino (for CPUs).")]
    batch: Annotated[int | None, Option(
        None, "Images in a network call.", "the runtime's best", least=1)]
    threads: Annotated[int | None, Option(
        None, "Threads that read and decode.", "the cores", least=1)]


class ViewOptions(TypedDict, total=False):
    """Augmented views of images, a row each beside that of the plain image."""

    views: Annotated[int, Option(0, "Augmented views of each training image, a row each.", least=0)]
    augment: Annotated[str | None, Option(
        None, "What varies in a view: classic, flip-rotate, or flip,rotate=40,...")]
    seed: Annotated[int, Option(0, "Another seed, other views.", least=0)]
    augment_all: Annotated[bool, Option(False, "Views for the images of every split.")]


class RowOptions(TypedDict, total=False):
    """Which images become rows, what is known of them, and where they are kept."""

    max_pixels: Annotated[int, Option(
        64_000_000, "Larger images are refused (at 4 bytes a pixel).", least=1)]
    cache: Annotated[str | Path | None, Option(
        None, "The cache folder.", "./cache", variable="FEATCACHE_DIR")]
    name: Annotated[str | None, Option(None, "The data set's name.", "the folder's")]
    test_from: Annotated[str | None, Option(
        None, "Make part of a split the test split: validation:0.2.")]
    on_error: Annotated[Literal["skip", "fail"], Option(
        "skip", "skip: list images that fail and go on; fail: stop.")]
    retry_failed: Annotated[bool, Option(False, "Try images again that failed before.")]
    rehash: Annotated[bool, Option(
        False, "Hash all images again, whatever their files' times say.")]
    pages: Annotated[Literal["first", "each"], Option(
        "first", "first: the page that --page says; each: a row of every page.")]
    follow_symlinks: Annotated[bool, Option(False, "Follow links to folders and out of the root.")]
    folders: Annotated[str | None, Option(
        None, "What the levels of folders are: class, split/class, group/class, -/class, ...",
        "as their names suggest")]
    splits_from_folders: Annotated[bool, Option(
        False, "The top folders are splits, those in them classes: --folders split/class.")]
    ignore: Annotated[Sequence[str] | None, Option(
        None, "A folder to leave out, by its name or path; again for another.")]
    forget: Annotated[bool, Option(
        False, "Go on where labels, splits, groups or metadata of the data set would be gone.")]
    labels: Annotated[Iterable[Any] | None, Option(
        None, "{name: class}, or beside a list one each, in its order.", "the folders'")]
    splits: Annotated[Iterable[Any] | None, Option(
        None, 'train, validation, test or "", one an image.', "the folders'")]
    groups: Annotated[Iterable[Any] | None, Option(
        None, 'What must stay on one side of a split, one an image; "" is none.')]


class ExtractionOptions(NetworkOptions, ViewOptions, RowOptions, total=False):
    """Everything that `featcache.extract` takes beside images, a backbone and a layer."""
