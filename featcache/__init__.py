"""featcache: run a frozen image network once, keep its features, train heads in seconds.

    ImageSet    where images are, what they are called, their labels
       |  x
    Recipe      a backbone and everything else that changes a vector
       v
    Features    vectors with the names, labels and splits of their rows,
       |        kept by a FeatureCache
       v
    Head        what is learned on vectors
       v
    Report      how good it is

Everything is imported when first used: ``import featcache`` loads neither numpy nor TensorFlow,
and reading a cache never loads TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featcache.backbones.table import BACKBONES
    from featcache.errors import DamagedFile, FeatcacheError, ImageFailure, StorageFailure
    from featcache.evaluation.evaluate import evaluate
    from featcache.evaluation.report import Report
    from featcache.extraction.extract import extract
    from featcache.extraction.feature_extractor import FeatureExtractor
    from featcache.features.cache import FeatureCache, load
    from featcache.features.features import Features
    from featcache.finetuning.finetune import finetune
    from featcache.fitting.fit_head import fit_head
    from featcache.fitting.sweeping.sweep import sweep
    from featcache.heads.head import Head
    from featcache.heads.kinds import HEADS
    from featcache.heads.logistic.estimators import FastLogisticRegression, FastLogisticRegressionCV
    from featcache.images import ImageSet, find_images
    from featcache.images.datasets import write_dataset
    from featcache.recipe import Recipe

__all__ = [
    "extract",
    "load",
    "fit_head",
    "finetune",
    "evaluate",
    "sweep",
    "find_images",
    "write_dataset",
    "FeatureExtractor",
    "FastLogisticRegression",
    "FastLogisticRegressionCV",
    "ImageSet",
    "Recipe",
    "Features",
    "FeatureCache",
    "Head",
    "Report",
    "BACKBONES",
    "HEADS",
    "FeatcacheError",
    "ImageFailure",
    "DamagedFile",
    "StorageFailure",
]

_HOME = {
    "extract": "extraction.extract",
    "load": "features.cache",
    "fit_head": "fitting.fit_head",
    "finetune": "finetuning.finetune",
    "evaluate": "evaluation.evaluate",
    "sweep": "fitting.sweeping.sweep",
    "find_images": "images",
    "write_dataset": "images.datasets",
    "FeatureExtractor": "extraction.feature_extractor",
    "FastLogisticRegression": "heads.logistic.estimators",
    "FastLogisticRegressionCV": "heads.logistic.estimators",
    "ImageSet": "images",
    "Recipe": "recipe",
    "Features": "features.features",
    "FeatureCache": "features.cache",
    "Head": "heads.head",
    "Report": "evaluation.report",
    "BACKBONES": "backbones.table",
    "HEADS": "heads.kinds",
    "FeatcacheError": "errors",
    "ImageFailure": "errors",
    "DamagedFile": "errors",
    "StorageFailure": "errors",
}


def __getattr__(name: str) -> Any:
    # No module of ours has the name of a public function, so nothing here can be shadowed.
    if name not in _HOME:
        raise AttributeError(f"module 'featcache' has no attribute {name!r}")
    value = getattr(import_module(f"featcache.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
