"""Where images are, what they are called, and their labels."""

from featcache.images.file_bytes import FileStamp
from featcache.images.image_set import ImageBytes, ImageSet, find_images, label_conflicts
from featcache.images.stat_cache import StatCache

__all__ = ["FileStamp", "ImageBytes", "ImageSet", "StatCache", "find_images", "label_conflicts"]
