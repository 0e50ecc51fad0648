"""Whether a backbone's weights are on this machine already, told by file names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from featcache.backbones.table import BACKBONES, Backbone

Whereabouts = Literal["embedded", "here", "download"]


def whereabouts(backbone: Backbone) -> Whereabouts:
    """Where the weights for extracting features would come from.

    "embedded" with the installation, "here" where Keras has downloaded the network without its
    top, else "download".
    """
    if backbone.source == "embedded":
        return "embedded"
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
    files = [path.name.lower() for path in folder.glob("*.h5")] if folder.is_dir() else []
    return "here" if any(_is_of(name, backbone) for name in files) else "download"


def _is_of(file: str, backbone: Backbone) -> bool:
    """Whether Keras would take a file of this name for this backbone without its top."""
    plain = re.sub(r"[\W_]+", "", file)
    named = [name for name in BACKBONES if name in plain]  # mobilenet, too, in mobilenetv2...
    return "notop" in plain and max(named, key=len, default="") == backbone.name
