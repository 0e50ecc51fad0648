"""From the bytes of one image to the pixels a network sees."""

from featcache.decode.bad_image import BadImage
from featcache.decode.decoder import (
    MAX_PIXELS,
    Decoded,
    decode,
    decode_all,
    decoder_versions,
    one_thread_each,
)

__all__ = [
    "MAX_PIXELS",
    "BadImage",
    "Decoded",
    "decode",
    "decode_all",
    "decoder_versions",
    "one_thread_each",
]
