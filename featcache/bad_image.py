"""The one exception for a single image that cannot be used: it costs that image, never the run."""

from __future__ import annotations


class BadImage(Exception):
    """One image cannot be used.

    Attributes
    ----------
    code: a short ASCII word of at most 32 characters, such as "damaged", for counting and filing.
    message: a sentence for the user; it does not repeat the image's name.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message
