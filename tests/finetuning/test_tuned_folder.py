"""The folder of a fine-tuning: what may lie in it, and that it can be moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import featcache
from featcache.backbones.opening import BackboneSource, recall_backbone
from featcache.backbones.tuned import check_writable
from featcache.errors import DamagedFile, FeatcacheError
from featcache.finetuning.plan import check_folder
from featcache.heads.head import Head
from featcache.verification import verify_path
from tests.finetuning.tuning_samples import save_network, tuned
from tests.made_features import damage

#: Keras's own saving and OpenVINO's conversion warn of what we cannot change.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning"),
]


def fitted(digits: Path, folder: Path, network: Path | None) -> Path:
    """A fine-tuning's folder: of the bundled network, or of a user's own one."""
    if network:
        return tuned(digits, network, folder / "out", epochs=1).folder
    options = {"backbone": "efficientnet_lite0", "size": 32, "epochs": 1}
    return featcache.finetune(digits, out=folder / "out", cache=folder / "cache", **options).folder


@pytest.mark.parametrize("own", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_moved_folder_predicts(own, digits, tmp_path):
    """Moved, it answers with its own weights as before, and as a backbone it is the same one."""
    network = save_network(tmp_path / "own.keras") if own else None
    folder = fitted(digits, tmp_path, network)
    (folder / "mine.head").write_bytes(b"of another's")
    images = sorted((digits / "7").iterdir())[:4]
    trusted = {"trust_model": own}
    before = Head.load(folder).predict_images(images, cache=tmp_path / "a", **trusted)
    moved = folder.rename(tmp_path / "moved")
    assert Head.load(moved).predict_images(images, cache=tmp_path / "b", **trusted) == before
    features = featcache.extract(digits, backbone=str(moved), cache=tmp_path / "cache", **trusted)
    assert features.run.extracted == 0
    assert verify_path(moved).state == "sound"
    (weights,) = moved.glob("backbone.*")
    damage(weights, weights.stat().st_size // 2)
    with pytest.raises(DamagedFile, match=str(weights)):
        featcache.extract(digits, backbone=str(moved), cache=tmp_path / "cache", **trusted)
    with pytest.raises(DamagedFile, match=str(weights)):
        Head.load(moved).predict_images(images, cache=tmp_path / "d", **trusted)
    assert [problem.path for problem in verify_path(moved).problems] == [weights]
    damage(weights, weights.stat().st_size // 2)
    # Another fine-tuning in its old place is not taken for it.
    shutil.copytree(moved, folder)
    for weights in folder.glob("backbone.*"):
        weights.write_bytes(b"of another's")
    assert Head.load(moved).predict_images(images, cache=tmp_path / "c", **trusted) == before


@pytest.mark.parametrize(
    "names",
    [
        [], [".DS_Store"], ["cache/digits"], ["finetuned.json", "a.txt"],
        ["checkpoint.safetensors"], ["frozen/logreg.head", "b"],
    ],
)  # fmt: skip
def test_an_empty_folder_or_ones_own_will_do(names, tmp_path):
    """Nothing, hidden files, the cache, and what an earlier run left, are no hindrance."""
    check_folder(tmp_path / "new", "photos")
    fill(tmp_path, names)
    check_folder(tmp_path, "photos", tmp_path / "cache")


@pytest.mark.parametrize(
    "names", [["classes.txt"], ["mine.head"], ["cache/digits"], ["frozen/1.jpg", "boiling/2.jpg"]]
)
def test_a_folder_with_foreign_files_is_refused(names, tmp_path):
    """A folder of files that no fine-tuning made is refused, and some of them are named."""
    fill(tmp_path, names)
    with pytest.raises(FeatcacheError, match=f"--out .*{names[-1].split('/')[0]}.*empty folder"):
        check_folder(tmp_path, "photos")


def test_the_images_folder_is_refused(tmp_path):
    """The images' own folder is refused even if an earlier version wrote into it."""
    fill(tmp_path, ["finetuned.json", "cat/1.jpg"])
    with pytest.raises(FeatcacheError, match="these are the images"):
        check_folder(tmp_path, f"{tmp_path}/../{tmp_path.name}")


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def test_a_saved_model_is_refused_before_it_learns(tmp_path):
    """A SavedModel could be trained and not be written: it is refused, a .keras file is not."""
    from featcache.backbones.keras_import import import_keras

    path = save_network(tmp_path / "own.keras")
    import_keras().saving.load_model(path).export(tmp_path / "saved", verbose=False)
    source = BackboneSource(scale="0..1", trusted=True)
    ((keras_one, _),) = recall_backbone(str(path), [("", "avg")], source)
    check_writable(keras_one)
    ((saved_one, _),) = recall_backbone(str(tmp_path / "saved"), [("", "avg")], source)
    with pytest.raises(FeatcacheError, match="a SavedModel cannot be fine-tuned"):
        check_writable(saved_one)
