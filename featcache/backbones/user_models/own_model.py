"""The door to a user's own model: told by its path, trusted by the user, digested, opened.

digest_user_model(path)                           no TensorFlow, no Keras: for warm starts
open_user_model(path, trusted=True, ...) -> UserModel
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from featcache.backbones.user_models.keras_file import open_keras_file
from featcache.backbones.user_models.saved_model import open_saved_model
from featcache.backbones.user_models.user_model import UserModel, settle_scale
from featcache.errors import FeatcacheError
from featcache.files.home import expanded

_GRAPH = "saved_model.pb"

#: What of a SavedModel's folder TensorFlow computes with. Left out: fingerprint.pb, a checksum of
#: these; keras_metadata.pb and tfhub_module.pb, which we do not read; assets.extra, which nobody
#: does.
_PARTS = ("variables", "assets")


def is_user_model(name: str) -> bool:
    """Whether `name` is the path of a ``.keras`` file or of a SavedModel's folder that is there."""
    path = expanded(name)
    return (path.suffix == ".keras" and path.is_file()) or (path / _GRAPH).is_file()


def digest_user_model(path: Path) -> str:
    """SHA-256 of a ``.keras`` file, or of a SavedModel's files with their names, in hex.

    Raises `FeatcacheError` where there is no such model, or it cannot be read.
    """
    path = expanded(path)
    _check_path(path)
    try:
        if path.is_file():
            return _file_digest(path)
        digest = hashlib.sha256()
        for name, file in sorted(_saved_files(path)):
            digest.update(f"{_file_digest(file)} {name}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise FeatcacheError(f"{path} cannot be read: {error}") from error


def open_user_model(
    path: Path, *, trusted: bool, size: tuple[int, int] | None = None, scale: str | None = None
) -> UserModel:
    """Open a ``.keras`` file or a SavedModel's folder as a backbone. Imports Keras.

    `size` is (height, width) in pixels, needed where the model takes any; `scale` is one of
    `SCALES`, needed where the model does not scale pixels itself.

    Raises `FeatcacheError` for a model that is not trusted, is damaged, or does not go from one
    batch of RGB images to features.
    """
    path = expanded(path)
    check_trust(path, trusted=trusted)
    if scale is not None:
        settle_scale(path, scale, "")
    digest = digest_user_model(path)
    opened = open_keras_file if path.is_file() else open_saved_model
    return opened(path, digest, size=size, scale=scale)


def check_trust(path: Path, *, trusted: bool) -> None:
    """Raise `FeatcacheError` where there is no such model, or the user does not trust it."""
    path = expanded(path)
    _check_path(path)
    if not trusted:
        raise FeatcacheError(_untrusted(path))


def _check_path(path: Path) -> None:
    """Raise `FeatcacheError` where nothing is there that could be opened."""
    if is_user_model(str(path)):
        return
    if not path.exists():
        raise FeatcacheError(f"{path}: there is no such file or folder")
    if path.is_file():
        raise FeatcacheError(
            f"{path} is not a model that featcache reads: expected is a .keras file, or the folder "
            f"of a SavedModel (unpack archives first). A weights file goes with --weights"
        )
    inside = [*path.glob(f"*/{_GRAPH}"), *path.glob(f"*/*/{_GRAPH}")]
    hint = f": did you mean {sorted(inside)[0].parent}?" if inside else ""
    raise FeatcacheError(f"{path} is not a SavedModel: it has no {_GRAPH}{hint}")


def _untrusted(path: Path) -> str:
    kind = "A .keras file" if path.is_file() else "A SavedModel"
    return (
        f"{path} was not opened: it is a program, and has to be trusted. {kind} from a stranger "
        "can read, change and send off your files when it is run. If you made it, or trust who "
        "did, say --trust-model (in Python: trust_model=True). Weights-only files (.weights.h5, "
        ".h5, .safetensors, by --weights) need no trust"
    )


def _saved_files(path: Path) -> list[tuple[str, Path]]:
    files = [path / _GRAPH]
    for part in _PARTS:
        files += [file for file in (path / part).rglob("*") if file.is_file()]
    return [(file.relative_to(path).as_posix(), file) for file in files]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
