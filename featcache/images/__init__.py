"""Where images are, what they are called, and their labels."""

from featcache.images.image_set import ImageBytes, ImageSet, find_images
from featcache.images.layout import NONE
from featcache.images.stat_cache import STAT_CACHE, StatCache, is_stat_cache

__all__ = [
    "ImageBytes",
    "ImageSet",
    "NONE",
    "STAT_CACHE",
    "StatCache",
    "find_images",
    "is_stat_cache",
]
