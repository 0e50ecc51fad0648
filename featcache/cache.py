"""FeatureCache: the folder of folders. Which data sets and recipes exist, and what they are called.

    cache/<data set>/<backbone>-<key8>/features.h5

A data set is known by its name; where its images lie is noted beside its files, never inside, so
that a cache can be moved, copied and mailed.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from featcache import finding
from featcache.errors import FeatcacheError, StorageFailure
from featcache.features import Features, open_features
from featcache.finding import PACKED
from featcache.images import ImageSet
from featcache.recipe import Recipe
from featcache.small_files import read_json, read_small
from featcache.store import RecipeStore, Snapshot, open_packed, recipe_key_of

MARKER = "featcache.json"
WEIGHTS_NOTE = "weights.json"
#: In place of a root: the data set's images come from anywhere.
ANYWHERE = "*"


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
        return [self.packed, *sorted((self.directory / "parts").glob("*.h5"))]

    def recipe(self) -> str:
        """The recipe's canonical text, from any sound file of the folder.

        Raises `FeatcacheError` where there is none.
        """
        for path in self.files():
            try:
                return open_packed(path).recipe
            except FeatcacheError:
                continue  # a damaged file: `verify` names it, here another one will do
        raise FeatcacheError(f"{self.directory}: no readable feature file in it")

    def store(self) -> RecipeStore:
        return RecipeStore(self.directory, self.recipe())

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
        return [
            entry
            for entry in entries
            if finding.KEYED.fullmatch(entry.directory.name) or finding.any_of_ours(entry.files())
        ]

    def find(self, features: str | Path) -> Entry:
        """The one entry that `features` means: the name ``photos``, ``photos/vgg16`` or
        ``photos/vgg16/fc2``, then a path to files of ours, then a beginning.

        ``./x``, ``/x`` and ``x.h5`` are paths only. Raises `FeatcacheError` that lists the
        candidates where there are several, or the nearest names where there is none.
        """
        found = self._look(str(features))
        return found if isinstance(found, Entry) else Entry(finding.folder_of(found))

    def find_whole(self, features: str | Path) -> Entry:
        """The entry of exactly this name, for what cannot be undone: no path, no beginning.

        A data set's name will do where it holds one entry. Raises `FeatcacheError` otherwise.
        """
        text, entries = str(features), self.entries()
        if entry := _only(text, finding.whole_names(text, entries)):
            return entry
        raise FeatcacheError(
            f"{self._nothing_like(text, entries)}. Deleting takes the whole name, as "
            f"`featcache ls` shows it, or that of a data set with one entry; no path, no beginning"
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
        found = _only(text, finding.names(name, entries)) or _at(text)
        found = found or _only(text, finding.beginnings(name, entries))
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

        A name belongs to one root. Where another root has it, the parent's name goes in front,
        unless that root is gone (then the images have moved) or `name` was given.
        """
        root = str(images.root.resolve()) if images.root else ""
        names = _names(images, name)
        owners = {candidate: _root_of(self.directory / candidate) for candidate in names}
        for candidate in sorted(names, key=lambda candidate: owners[candidate] != root):
            folder, owner = self.directory / candidate, owners[candidate]
            if owner in (None, root):
                remarks = (
                    []
                    if candidate == _slug(name or images.name)
                    else [
                        f"the name {_slug(images.name)!r} belongs to another folder: "
                        f"these features are called {candidate!r}"
                    ]
                )
                return self._mark(folder, root), remarks
            if owner != ANYWHERE and (name or (owner and not Path(owner).exists())):
                return self._mark(folder, root), [
                    f"{candidate!r} was {owner or 'arrays in memory'}, it is now {root or 'arrays'}"
                ]
        raise FeatcacheError(
            f"every name for {root or 'arrays'} is taken in {self.directory} "
            f"({', '.join(names)}): give another with --name"
        )

    def claim_for_any(self, name: str) -> Path:
        """The folder for a data set of images from anywhere, which no root may take over.

        Raises `FeatcacheError` where the name is that of another data set.
        """
        folder = self.directory / _slug(name)
        owner = _root_of(folder)
        if owner not in (None, ANYWHERE):
            raise FeatcacheError(
                f"{folder} holds the features of {owner or 'arrays'}: give images from anywhere "
                f"another data set (cache_name=... of FeatureExtractor)"
            )
        return self._mark(folder, ANYWHERE)

    @staticmethod
    def place(folder: Path, recipe: Recipe, name: str) -> Path:
        """Where a data set's features under a recipe lie: there already, or to be called `name`."""
        for entry in (Entry(path) for path in sorted(folder.glob(f"*-{recipe.key[:8]}"))):
            if _holds(entry, recipe):
                return entry.directory
        return folder / f"{_slug(name).lower()[:39]}-{recipe.key[:8]}"

    def remove(self, features: str | Path) -> tuple[Entry, int]:
        """Delete one entry, and its data set's folder with the last one; gives its bytes."""
        entry = self.find_whole(features)
        size = folder_size(entry.directory)
        shutil.rmtree(entry.directory)
        data_set = entry.directory.parent
        left = {path.name for path in data_set.iterdir()}
        if left <= {MARKER, "scan.json.gz"} and MARKER in left:
            shutil.rmtree(data_set)
        return entry, size

    def _mark(self, folder: Path, root: str) -> Path:
        marker = folder / MARKER
        text = json.dumps({"format": "featcache-dataset", "version": 1, "root": root})
        try:
            if not marker.exists() or read_small(marker) != text.encode("ascii"):
                folder.mkdir(parents=True, exist_ok=True)
                draft = folder / f".tmp-marker-{os.getpid()}"
                draft.write_text(text)
                draft.replace(marker)
        except OSError as error:
            raise StorageFailure(f"cannot write in the cache {self.directory}: {error}") from error
        return folder

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
    """Note beside the features where their weights lay, for the heads fitted on them."""
    (directory / WEIGHTS_NOTE).write_text(json.dumps({"weights": hint}), encoding="utf-8")


def weights_hint(directory: Path) -> str:
    """Where the weights lay; only a hint, their digest is checked before it is believed."""
    try:
        return str(read_json(directory / WEIGHTS_NOTE)["weights"])
    except (OSError, ValueError, KeyError, TypeError):
        return "imagenet"


def images_root(directory: Path) -> str:
    """The folder of the images whose features a directory holds; "" where none is known."""
    root = _root_of(directory.parent) or ""
    return "" if root == ANYWHERE else root


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
    return entry if kind == "folder" and finding.any_of_ours(entry.files()) else None


def _only(text: str, matches: list[Entry]) -> Entry | None:
    """The one match, None where there is none; raises `FeatcacheError` for several."""
    if len(matches) < 2:
        return matches[0] if matches else None
    width = max(len(entry.name) for entry in matches)
    raise FeatcacheError(
        f"{text!r} could be any of these; write more of it:",
        [f"{entry.name:<{width}}  {entry.summary}" for entry in matches],
    )


def _slug(name: str) -> str:
    """A folder name that is safe everywhere: word characters, dots and hyphens."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:48] or "images"


def _names(images: ImageSet, name: str | None) -> list[str]:
    """The names to try for a data set, in order."""
    if name:
        return [_slug(name)]
    own = _slug(images.name)
    if images.root is None:
        return [own]
    parents = [parent.name for parent in images.root.resolve().parents if parent.name]
    return [own] + [
        _slug("-".join([*reversed(parents[: n + 1]), own])) for n in range(len(parents))
    ]


def _root_of(folder: Path) -> str | None:
    """The root that owns a data set's name; None where nobody does (or its note is unreadable)."""
    try:
        return str(read_json(folder / MARKER)["root"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
