"""Finding: an entry of the cache, and which a text means: a name, then a path, then a beginning.

A path counts only where a file of ours lies, so that a folder of images never stands for features.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.store.recipe_store import RecipeStore, recipe_key_of, recipe_text_of
from featcache.recipe import Recipe

PACKED = "features.h5"
PARTS = "parts"
#: The folder of one data set under one recipe ends in the first digits of the recipe's key.
KEYED = re.compile(r".+-[0-9a-f]{8}", re.DOTALL)


def is_keyed(folder: Path) -> bool:
    """Whether a folder is called as those of one data set under one recipe are."""
    return KEYED.fullmatch(folder.name) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """One data set under one recipe: a folder of the cache."""

    directory: Path

    @property
    def data_set(self) -> str:
        return self.directory.parent.name

    @property
    def name(self) -> str:
        """As the user may write it: ``photos/vgg16-1a2b3c4d``."""
        return f"{self.data_set}/{self.directory.name}"

    @property
    def packed(self) -> Path:
        return self.directory / PACKED

    def files(self) -> list[Path]:
        """Where its rows lie, or should: the packed file first."""
        return [self.packed, *sorted((self.directory / PARTS).glob("*.h5"))]

    @property
    def has_ours(self) -> bool:
        """Whether one of its files has a header of ours."""
        return any(map(is_ours, self.files()))

    def recipe(self) -> str:
        """The recipe's canonical text, from any file or part of the folder that still says it.

        Raises `FeatcacheError` where there is none.
        """
        for path in self.files():
            try:
                if text := recipe_text_of(path):
                    return text
            except FeatcacheError:
                continue  # missing, or no file at all: here another one will do
        raise FeatcacheError(f"{self.directory}: no readable feature file in it")

    def store(self) -> RecipeStore:
        """The rows of the folder, whatever state its files are in."""
        try:
            recipe = self.recipe()
        except FeatcacheError:
            recipe = "{}"  # nobody's: every file that is there is damaged
        return RecipeStore(self.directory, recipe)

    @property
    def summary(self) -> str:
        """What tells it from other entries of its data set and backbone, in a few words."""
        try:
            return Recipe.from_json(self.recipe()).summary
        except FeatcacheError:
            return "not readable"

    @property
    def tap(self) -> str:
        """The tapped layer and its pooling, "" where no file is readable."""
        try:
            return Recipe.from_json(self.recipe()).tap
        except FeatcacheError:
            return ""


def is_path(text: str) -> bool:
    """Whether a text can only be a path: ``/x``, ``./x``, ``../x``, ``.``, ``..``, ``x.h5``."""
    return text.startswith(("/", "./", "../")) or text in (".", "..") or text.endswith(".h5")


def whole_names(text: str, entries: list[Entry]) -> list[Entry]:
    """Those called exactly so, or all of the data set called exactly so."""
    whole = [entry for entry in entries if entry.name == text]
    return whole or [entry for entry in entries if entry.data_set == text]


def names(text: str, entries: list[Entry]) -> list[Entry]:
    """Those called exactly so: by whole name, data set, backbone, or backbone and tap."""
    above, _, tap = text.rpartition("/")
    return (
        whole_names(text, entries)
        or [entry for entry in entries if entry.name.rpartition("-")[0] == text]
        or [
            entry
            for entry in entries
            if above and entry.name.startswith(above) and entry.tap == tap
        ]
    )


def beginnings(text: str, entries: list[Entry]) -> list[Entry]:
    """Those whose name begins so; nothing begins with nothing."""
    return [entry for entry in entries if text and entry.name.startswith(text)]


def is_ours(file: str | Path) -> bool:
    """Whether a file has a header of ours; a damaged one too, which `verify` has words for."""
    try:
        recipe_key_of(Path(file))
    except DamagedFile:
        return True
    except (FeatcacheError, OSError, ValueError):
        return False
    return True


def folder_of(file: Path) -> Path:
    """The folder of one data set and recipe that a file of it lies in.

    Raises `FeatcacheError` where the file is none of ours, or lies there by itself.
    """
    if not is_ours(file):
        raise FeatcacheError(f"{str(file)!r} is not a file of features: expected {PACKED}")
    if file.name == PACKED:
        return file.absolute().parent
    if file.absolute().parent.name == PARTS:
        return file.absolute().parent.parent
    raise FeatcacheError(
        f"{str(file)!r} is a file of features by itself: expected a folder of the cache with "
        f"{PACKED} in it"
    )


def kind_at(path: str | Path) -> str:
    """What lies at a path, links followed: "folder", "file", or "" for nothing one can look at."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # too long, a loop of links, not permitted: nothing to find
        return ""
    return "folder" if stat.S_ISDIR(mode) else "file"


def there(text: str) -> str:
    """What lies at a path that holds no features, in words for an error; "" for nothing."""
    kind = kind_at(text)
    return f" ({text!r} is a {kind} without features)" if kind else ""
