"""Large images: the limit is in bytes, and what they need at once is bounded."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from specimens import picture, png, saved

from featcache.errors import BadImage
from featcache.images import strips
from featcache.images.decoder import decode
from featcache.recipe import Decoding

#: Two threads decode a PNG of one repeated row; prints how many MB the process grew by.
PEAK = """
import resource, struct, sys, threading, zlib
from featcache.images.decoder import decode
from featcache.recipe import Decoding

height, width, depth = map(int, sys.argv[1:])
def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
row, packer = bytes(1 + width * 4 * depth // 8), zlib.compressobj(1)
data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
head = struct.pack(">IIBBBBB", width, height, depth, 6, 0, 0, 0)
raw = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
threads = [threading.Thread(target=decode, args=(raw, Decoding((32, 32)))) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(("side", "depth"), [(5000, 16), (5000, 8)])
def test_large_images_need_a_bounded_memory(side: int, depth: int) -> None:
    """25 megapixels with alpha in two threads take less than 600 MB, deep pixels too."""
    command = [sys.executable, "-c", PEAK, str(side), str(side), str(depth)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 600


def test_the_limit_counts_bytes() -> None:
    """Of 8 bits and four channels `max_pixels` pass, of 16 bits and four channels half as many."""
    deep = png(np.zeros((20, 30, 4), ">u2"), 6)
    for raw, limit in ((saved(np.zeros((20, 30, 4), np.uint8), "PNG"), 600), (deep, 1200)):
        decode(raw, Decoding((8, 8)), max_pixels=limit)
        with pytest.raises(BadImage) as caught:
            decode(raw, Decoding((8, 8)), max_pixels=limit - 1)
        assert caught.value.code == "too-many-pixels"
    assert "--max-pixels" in caught.value.message


@pytest.mark.parametrize("interpolation", ["area", "keras"])
@pytest.mark.parametrize("bit_depth", ["16", "12", "minmax"])
def test_strips_change_no_pixel(interpolation, bit_depth, monkeypatch) -> None:
    """Images of every kind are the same in strips of two rows and in one piece."""
    decoding = Decoding((60, 80), "squash", interpolation, bit_depth)
    rng = np.random.default_rng(0)
    colours = picture(60, 80)
    alpha = np.dstack([colours, rng.integers(0, 256, (60, 80), np.uint8)])
    deep = rng.integers(0, 65536, (60, 80, 4)).astype(">u2")
    raws = [
        saved(colours, "PNG"), saved(alpha, "PNG"), saved(colours[..., 0], "PNG"), png(deep, 6),
        png(deep[..., :3], 2), png(deep[..., :1], 0), saved(colours, "GIF"), saved(alpha, "WEBP"),
        saved(colours, "TIFF"), saved(Image.fromarray(colours).convert("CMYK"), "JPEG"),
    ]  # fmt: skip
    if bit_depth == "minmax":
        raws.append(saved(rng.standard_normal((60, 80)).astype(np.float32), "TIFF"))
    whole = [decode(raw, decoding) for raw in raws]
    monkeypatch.setattr(strips, "_STRIP", 160)
    for raw, want in zip(raws, whole, strict=True):
        found = decode(raw, decoding)
        assert np.array_equal(found.pixels, want.pixels)
        assert found.warning == want.warning
