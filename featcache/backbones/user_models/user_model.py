"""UserModel: a model of the user's own, opened: where its pixels go in and what can be tapped."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones.table import BACKBONES
from featcache.errors import FeatcacheError, one_of
from featcache.recipe import Scaling

#: What --scale may say -> the pixel scaling. Families of the table that have them supply theirs.
SCALES: dict[str, Scaling] = {
    "0..1": Scaling(divisor=255.0),
    "-1..1": BACKBONES["mobilenetv2"].scaling,
    "tf": BACKBONES["mobilenetv2"].scaling,
    "caffe": BACKBONES["vgg16"].scaling,
    "torch": BACKBONES["densenet121"].scaling,
    "none": Scaling(),
}


@dataclass(frozen=True, slots=True)
class UserModel:
    """A ``.keras`` model or a SavedModel, ready to be tapped.

    Attributes
    ----------
    path: where it was read from.
    digest: SHA-256 of its file, or of its folder's files, in hex (see `digest_user_model`).
    size: (height, width) of its input, in pixels.
    scaling: from RGB pixels in 0..255 to what it takes.
    network: Keras model whose one input is SCALED float32 pixels, (batch, H, W, 3).
    tensors: what can be tapped, by name: symbolic outputs of `network`'s graph.
    feature: name of the tap that is meant when none is named; "" where that is not clear.
    taps: whether its inner layers can be tapped, not only its outputs.
    finetune: whether it has weights that can be trained, and be written again.
    remarks: what the user should know.
    """

    path: Path
    digest: str
    size: tuple[int, int]
    scaling: Scaling
    network: Any
    tensors: Mapping[str, Any]
    feature: str
    taps: bool
    finetune: bool
    remarks: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of everything that can be tapped."""
        return tuple(self.tensors)

    def tap(self, layer: str) -> tuple[str, Any]:
        """The full name of a tap and its symbolic output; "" is the feature, "-2" the last but one.

        Raises `FeatcacheError` with the nearest names where there is none of that name.
        """
        name = layer or self.feature
        if re.fullmatch(r"-[1-9]\d*", name) and int(name) >= -len(self.tensors):
            name = self.outputs[int(name)]
        if name in self.tensors:
            return name, self.tensors[name]
        if not name:
            raise FeatcacheError(
                f"{self.path} has several outputs: choose one by --layer: {_listed(self.outputs)}"
            )
        near = difflib.get_close_matches(name, self.outputs, n=5, cutoff=0.4) or self.outputs[-5:]
        raise FeatcacheError(
            f"--layer {layer!r} is not {'a layer' if self.taps else 'an output'} of {self.path}: "
            f"nearest are {', '.join(near)}"
        )


def settle_scale(path: Path, scale: str | None, known: str) -> tuple[Scaling, tuple[str, ...]]:
    """The scaling, and what to remark about it; `known` says why the model takes 0..255, or "".

    Raises `FeatcacheError` where it was not asked for and the model does not tell.
    """
    if scale is not None:
        one_of("--scale", scale, tuple(SCALES))
    if scale is None and not known:
        raise FeatcacheError(
            f"{path} does not tell which pixel range it was trained on: give --scale, one of",
            [
                "0..1   pixels / 255: the convention of TF-Hub and Kaggle image models",
                "-1..1  pixels / 127.5 - 1, also called tf: MobileNet, Inception, ResNetV2",
                "torch  pixels / 255, less the ImageNet mean, by its deviation: DenseNet, PyTorch",
                "caffe  BGR, less the ImageNet mean: VGG, ResNet of keras.applications",
                "none   pixels 0..255 as they are: models that scale them themselves",
            ],
            "The model's page says it, or the training script where it prepares the images",
        )
    if scale is None:
        return SCALES["none"], (f"--scale none: {known}",)
    if known and scale != "none":
        return SCALES[scale], (f"--scale {scale} is applied, although {known}",)
    return SCALES[scale], ()


def settle_size(
    path: Path, sides: tuple[int | None, int | None], asked: tuple[int, int] | None
) -> tuple[int, int]:
    """The input's (height, width): the model's own where they are fixed, else as asked for.

    Raises `FeatcacheError` where they are free and not asked for, or fixed and asked otherwise.
    """
    height, width = sides
    if asked is None:
        if height is None or width is None:
            raise FeatcacheError(
                f"{path} takes images of any size: say which by --size S or --size HxW, best the "
                "one that it was trained at"
            )
        return height, width
    if height not in (None, asked[0]) or width not in (None, asked[1]):
        raise FeatcacheError(
            f"--size {asked[0]}x{asked[1]}: {path} takes only "
            f"{height or 'any'}x{width or 'any'} (height x width); leave --size out"
        )
    return asked


def input_problem(shape: tuple[int | None, ...], dtype: str) -> str:
    """Why an input of this shape and type is not a batch of RGB images; "" where it is."""
    if dtype not in ("float32", "uint8"):
        return f"its input is of type {dtype}: expected is float32 or uint8 pixels"
    if len(shape) != 4:
        return f"its input is of shape {shape}: expected is (batch, height, width, 3)"
    if shape[3] == 1:
        return "it takes grey images of one channel: only models of RGB images are supported"
    if shape[3] not in (3, None):
        return f"its input is of shape {shape}: expected are 3 channels, in the last place"
    if shape[0] is not None:
        return f"its batch is fixed to {shape[0]}: save it with a free batch size (None)"
    return ""


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error of a library says, on one line of bounded length."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
