"""A look at how files begin, before a network is built for them: is there an image at all?"""

from __future__ import annotations

from collections.abc import Sequence

from featcache.errors import BadImage, ImageFailure
from featcache.images.file_bytes import read_start
from featcache.images.image_header import sniff
from featcache.images.image_set import ImageSet


def require_an_image(images: ImageSet) -> None:
    """Raise `ImageFailure` where not one file begins as an image does; read until one does."""
    if images.arrays is not None:
        return
    failures = []
    for name, path in zip(images.names, images.files(), strict=True):
        try:
            sniff(read_start(path, images.fence()))
        except BadImage as bad:
            failures.append((name, bad.message))
        else:
            return
    raise none_usable(failures)


def none_usable(failures: Sequence[tuple[str, str]]) -> ImageFailure:
    """The error for images that failed all of them: (name, reason) of each."""
    shown = [f"{name}: {reason}" for name, reason in failures[:5]]
    more = [f"and {len(failures) - 5} more"] if len(failures) > 5 else []
    return ImageFailure(f"not one of {len(failures)} images could be used:", [*shown, *more])
