"""The names of ImageNet's classes, in the order of a classifier's outputs.

Keras downloads its list; this one comes with the package. `imagenet_labels.txt` says where it was
taken from and under which licence.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from featcache.errors import FeatcacheError

CLASSES = 1000
_FILE = Path(__file__).with_name("imagenet_labels.txt")


def synsets() -> list[tuple[str, str]]:
    """WordNet's number and first English word of each class, such as ("n02123045", "tabby")."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    return [(number, name) for number, name in pairs]


def class_names(outputs: int) -> list[str]:
    """The name of each output of an ImageNet classifier; no two are the same.

    A classifier of 1001 outputs (those of TensorFlow Hub) begins with "background". Two classes
    of one word carry their synsets: "crane (n02012849)" is the bird.

    Raises `FeatcacheError` for any other number of outputs.
    """
    if outputs not in (CLASSES, CLASSES + 1):
        raise FeatcacheError(
            f"this top has {outputs} outputs; ImageNet's names are known for {CLASSES} classes, or "
            f"{CLASSES + 1} with a background first: use weights that were trained on ImageNet"
        )
    pairs = synsets()
    occurrences = Counter(name for _, name in pairs)
    names = [name if occurrences[name] == 1 else f"{name} ({number})" for number, name in pairs]
    return names if outputs == CLASSES else ["background", *names]
