"""The folder of what comes out: empty or of an earlier run, never one with the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featcache.backbones.tuned_record import RECORD
from featcache.errors import FeatcacheError
from featcache.features.cache import FeatureCache
from featcache.files.home import expanded
from featcache.finetuning.plan import CHECKPOINT

#: Names of foreign files that an error lists.
_SHOWN = 3


def check_folder(out: Path, images: Any, cache: str | Path | None = None) -> None:
    """Raise `FeatcacheError` where what comes out would lie among, or write over, foreign files.

    `images` and `cache` are those of `extract`; a cache inside `out` is not foreign, nor is what
    an earlier run left, or a hidden file.
    """
    if not out.is_dir():
        return
    if isinstance(images, (str, Path)) and expanded(images).resolve() == out.resolve():
        raise FeatcacheError(
            f"--out {out}: these are the images; expected is a folder of its own, such as "
            f"{out.parent / (out.resolve().name + '-tuned')}"
        )
    foreign = [] if _is_ours(out) else _foreign(out, FeatureCache.open(cache).directory)
    if foreign:
        listed = ", ".join(foreign[:_SHOWN]) + (", ..." if foreign[_SHOWN:] else "")
        raise FeatcacheError(
            f"--out {out}: a folder with other files in it ({listed}), which might be written "
            f"over; expected is a new or empty folder, or that of an earlier fine-tuning"
        )


def _is_ours(out: Path) -> bool:
    return (
        (out / RECORD).is_file() or (out / CHECKPOINT).is_file() or any(out.glob("frozen/*.head"))
    )


def _foreign(out: Path, cache: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in out.iterdir()
        if not entry.name.startswith(".") and entry.resolve() != cache.resolve()
    )
