"""The options of a fine-tuning: how it trains, what it caches, and those of its extraction."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from featcache.extraction.options import NetworkOptions, RowOptions
from featcache.options import Option
from featcache.recipe import StoredType


# fmt: off
class TrainingOptions(TypedDict, total=False):
    """What learns, and how."""

    unfreeze_from: Annotated[str | None, Option(
        None, "First layer that learns: name, alias, number, -20, or all.", "the top quarter")]
    epochs: Annotated[int, Option(10, "How many epochs are added to the head's own.")]
    learning_rate: Annotated[float, Option(1e-5, "Step size of the optimizer.")]
    optimizer: Annotated[Literal["rmsprop", "adam", "sgd"], Option(
        "rmsprop", "rmsprop, adam or sgd.")]
    batch_size: Annotated[int, Option(32, "Images in a step.")]
    steps_per_epoch: Annotated[int | None, Option(None, "Batches in an epoch.", "every image once")]
    label_smoothing: Annotated[float, Option(
        0.0, "Share of a label that is spread over all classes: 0, or below 1.")]
    class_weight: Annotated[Literal["none", "balanced"], Option(
        "none", "balanced: every class counts the same; none: every row.")]
    patience: Annotated[int | None, Option(
        None, "Stop after N epochs without a better validation loss.", "never")]
    stop_at: Annotated[float | None, Option(
        None, "Stop when training and validation accuracy both reach it.", "never")]
    batch_norm: Annotated[bool, Option(
        False, "Let BatchNorm follow the batches, and dropout drop.", "neither")]
    mixed_precision: Annotated[Literal["float16", "bfloat16"] | None, Option(
        None, "float16 or bfloat16, for a GPU.", "float32")]
    augment: Annotated[str, Option(
        "", "What varies from epoch to epoch: classic, flip-rotate, ...", "nothing")]
    seed: Annotated[int, Option(0, "Decides which images are held out, and every random number.")]


class CutOptions(TypedDict, total=False):
    """What is done with the part that learns nothing."""

    from_cut: Annotated[Literal["auto", "yes", "no"], Option(
        "auto", "Run it once and cache its activations: auto, yes or no.")]
    cut_dtype: Annotated[StoredType, Option(
        "float16", "float16 or float32: how activations are stored.")]
    views: Annotated[int, Option(0, "Cached views by --augment, instead of one an epoch.", least=0)]


class FinetuneOptions(TrainingOptions, CutOptions, NetworkOptions, RowOptions, total=False):
    """Everything that `featcache.finetune` takes beside images, a network and a head."""
