"""From the bytes of one image to the pixels a network sees."""
