"""FeatureCache: the folder of folders. Which data sets and recipes exist, and what they are called.

    cache/<data set>/<backbone>-<key8>/features.h5

A data set is known by its name; where its images lie is noted beside its files, never inside, so
that a cache can be moved, copied and mailed.
"""

from __future__ import annotations

import difflib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.features import finding
from featcache.features.claims import ANYWHERE, UNREADABLE, claim, owner_of, slug
from featcache.features.features import Features, open_features
from featcache.features.finding import PACKED, Entry
from featcache.features.removal import WEIGHTS_NOTE, remove_entry
from featcache.features.store.clearing import last_copies
from featcache.features.store.recipe_store import RecipeStore, recipe_key_of
from featcache.features.store.records import GcResult
from featcache.features.store.snapshot import Snapshot
from featcache.files.small_files import read_json
from featcache.files.write import write_whole
from featcache.images import ImageSet
from featcache.recipe import Recipe


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """The cache folder: `directory`, else ``$FEATCACHE_DIR``, else ``./cache``."""

    directory: Path

    @classmethod
    def open(cls, directory: str | Path | None = None) -> FeatureCache:
        return cls(Path(directory or os.environ.get("FEATCACHE_DIR") or "cache"))

    def entries(self) -> list[Entry]:
        """Every data set under every recipe, sorted by name."""
        if not self.directory.is_dir():
            return []
        found = {
            path.parent if path.name == PACKED else path
            for pattern in (f"*/*/{PACKED}", "*/*/parts")
            for path in self.directory.glob(pattern)
        }
        folders = {path.parent if path.name == "parts" else path for path in found}
        entries = [Entry(folder) for folder in sorted(folders)]
        # A class of images may be called `parts` too.
        return [entry for entry in entries if finding.is_keyed(entry.directory) or entry.has_ours]

    def find(self, features: str | Path) -> Entry:
        """The one entry that `features` means: the name ``photos``, ``photos/vgg16`` or
        ``photos/vgg16/fc2``, then a path to files of ours, then a prefix.

        ``./x``, ``/x`` and ``x.h5`` are paths only. Raises `FeatcacheError` that lists the
        candidates where there are several, or the nearest names where there is none.
        """
        found = self._look(str(features))
        return found if isinstance(found, Entry) else Entry(finding.folder_of(found))

    def find_whole(self, features: str | Path) -> Entry:
        """The entry of exactly this name, for what cannot be undone: no path, no prefix.

        A data set's name will do where it holds one entry. Raises `FeatcacheError` otherwise.
        """
        text, entries = str(features), self.entries()
        if entry := _only(text, finding.whole_names(text, entries)):
            return entry
        raise FeatcacheError(
            f"{self._nothing_like(text, entries)}. Deleting takes the whole name, as "
            f"`featcache ls` shows it, or that of a data set with one entry; no path, no prefix"
        )

    def load(self, features: str | Path) -> Features:
        """The features that `features` means.

        Raises `FeatcacheError` where they are not there, `DamagedFile` where they were damaged.
        """
        found = self._look(str(features))
        if isinstance(found, Path):
            return open_features(found)
        if not found.packed.exists():
            raise FeatcacheError(
                f"{found.name} has saved parts but no {PACKED} yet: its extraction still runs, or "
                f"was interrupted. Run the same `featcache extract` again to finish it"
            )
        return open_features(found.packed)

    def _look(self, text: str) -> Entry | Path:
        """What a text means: an entry, or a file that it leads to."""
        if not text:
            raise FeatcacheError("the features are an empty name: in a script, a variable may be")
        if finding.is_path(text):
            found = _at(text)
            if found is None:
                raise FeatcacheError(f"no features at {text!r}{finding.there(text)}")
            return found
        entries, name = self.entries(), text.rstrip("/")
        found = _only(text, _newest(finding.names(name, entries))) or _at(text)
        found = found or _only(text, _newest(finding.beginnings(name, entries)))
        if found is None:
            raise FeatcacheError(self._nothing_like(text, entries) + finding.there(text))
        return found

    def of_recipe(self, recipe: Recipe) -> list[Entry]:
        """The entries of all data sets that hold vectors of exactly this recipe, sorted."""
        return [
            entry
            for entry in self.entries()
            if entry.directory.name.endswith(recipe.key[:8]) and _holds(entry, recipe)
        ]

    def snapshots(self, recipe: Recipe, *, but: Path | None = None) -> list[Snapshot]:
        """The rows of exactly this recipe in all data sets, leaving out the folder `but`."""
        folders = [entry.directory for entry in self.of_recipe(recipe)]
        text = recipe.to_json()
        return [RecipeStore(folder, text).snapshot() for folder in folders if folder != but]

    def claim(self, images: ImageSet, name: str | None) -> tuple[Path, list[str]]:
        """The folder for a data set of these images, and what to tell the user about its name.

        A name belongs to one root; see `featcache.features.claims`.
        """
        return claim(self.directory, images, name)

    @staticmethod
    def place(folder: Path, recipe: Recipe, name: str) -> Path:
        """Where a data set's features under a recipe lie: there already, or to be called `name`."""
        for entry in (Entry(path) for path in sorted(folder.glob(f"*-{recipe.key[:8]}"))):
            if _holds(entry, recipe):
                return entry.directory
        return folder / f"{slug(name).lower()[:39]}-{recipe.key[:8]}"

    def remove(self, features: str | Path) -> tuple[Entry, GcResult]:
        """Delete the files of one entry that are recognised, and what this empties.

        What else lies there stays, and is in the result.
        """
        entry = self.find_whole(features)
        if entry.directory.parent.parent.resolve() != self.directory.resolve():
            raise FeatcacheError(
                f"{entry.directory} is not in the cache {self.directory}: see --cache"
            )
        return entry, remove_entry(entry.directory)

    def last_copies(self, entry: Entry) -> dict[Path, int]:
        """The files that `gc` would delete with rows that are nowhere else: how many rows."""
        left = sorted((entry.directory / "parts").glob("left-*.h5"))
        if not left:
            return {}
        try:
            recipe = entry.recipe()
        except FeatcacheError:  # unreadable: their rows are unknown
            return dict.fromkeys(left, 0)
        others = [
            RecipeStore(folder.directory, recipe).snapshot()
            for folder in self.of_recipe(Recipe.from_json(recipe))
            if folder.directory != entry.directory
        ]
        return last_copies(entry.directory, recipe, others)

    def _nothing_like(self, text: str, entries: list[Entry]) -> str:
        if not entries:
            return (
                f"no features called {text!r}: the cache {self.directory} is empty. "
                f"Run `featcache extract IMAGES` first, or name another cache with --cache"
            )
        near = difflib.get_close_matches(text, [entry.name for entry in entries], 3, 0.3)
        shown = near or [entry.name for entry in entries[:5]]
        return f"no features called {text!r} in {self.directory}; there are: {', '.join(shown)}"


def _holds(entry: Entry, recipe: Recipe) -> bool:
    """Whether an entry is of this recipe (its folder's name only suggests it).

    The header of a file says so; what else is wrong with it, a snapshot finds.
    """
    for path in entry.files():
        try:
            return recipe_key_of(path) == recipe.key
        except FeatcacheError:
            continue  # missing or damaged: another file will do
    return False


def note_weights(directory: Path, hint: str) -> None:
    """Note beside the features where their weights were, for the heads fitted on them."""
    text = json.dumps({"weights": hint}).encode("ascii")
    write_whole(directory / WEIGHTS_NOTE, text, base=directory.parent.parent)


def weights_hint(directory: Path) -> str:
    """Where the weights were; only a hint, their digest is checked before they are used."""
    try:
        return str(read_json(directory / WEIGHTS_NOTE)["weights"])
    except (OSError, ValueError, KeyError, TypeError):
        return "imagenet"


def images_root(directory: Path) -> str:
    """The folder of the images whose features a directory holds; "" where none is known."""
    root = owner_of(directory.parent) or ""
    return "" if root in (ANYWHERE, UNREADABLE) else root


def folder_size(directory: Path) -> int:
    """Bytes of all regular files below a folder."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _at(text: str) -> Entry | Path | None:
    """The features that lie at a path; None where there is no file of ours.

    A text that can only be a path gives its file as it is: opening it says what is wrong.
    """
    path, kind = Path(text), finding.kind_at(text)
    if kind == "file":
        return path if finding.is_path(text) or finding.is_ours(path) else None
    entry = Entry(path.absolute())
    return entry if kind == "folder" and entry.has_ours else None


def _newest(matches: list[Entry]) -> list[Entry]:
    """The matches without those that another one replaces: the same recipe under later rules."""
    if len(matches) < 2:
        return matches
    recipes = {}
    for entry in matches:
        with suppress(FeatcacheError):  # nobody can tell what it holds: it stays
            recipes[entry] = Recipe.from_json(entry.recipe())
    replaced = {
        (entry.data_set, old.key) for entry, recipe in recipes.items() for old in recipe.earlier
    }
    return [
        entry
        for entry in matches
        if entry not in recipes or (entry.data_set, recipes[entry].key) not in replaced
    ]


def _only(text: str, matches: list[Entry]) -> Entry | None:
    """The one match, None where there is none; raises `FeatcacheError` for several."""
    if len(matches) < 2:
        return matches[0] if matches else None
    width = max(len(entry.name) for entry in matches)
    raise FeatcacheError(
        f"{text!r} could be any of these; write more of it:",
        [f"{entry.name:<{width}}  {entry.summary}" for entry in matches],
    )


def load(features: str | Path, *, cache: str | Path | None = None, check: bool = True) -> Features:
    """The cached features that `features` means: a path, "photos", "photos/vgg16", a prefix.

    Vectors are memory-mapped, and compared with their checksums when they are first asked for,
    unless `check` is False. Raises `FeatcacheError` where there are none or several, `DamagedFile`
    where the file is damaged. Never imports TensorFlow.
    """
    return replace(FeatureCache.open(cache).load(features), _check=check)
