"""Command lines made of the command line's own description: valid values, wrong ones, any text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import typer
from hypothesis import strategies as st

from featcache.cli import app

#: Values that an option may well be given, by its name in the code.
VALID: dict[str, list[str]] = {
    "images": ["photos", "manifest.csv", "photos/train/cat/00.png", "../canary/pictures"],
    "image": ["photos/train/cat/00.png"],
    "features": ["photos", "other", "photos/efficientnet_lite0", "cache/photos", "pho"],
    "head": ["photos.head", "cache/photos", "logreg", "centroid"],
    "against": ["photos.head"], "against_features": ["photos"], "backbone": ["efficientnet_lite0"],
    "weights": ["imagenet", "random:1"], "layer": ["head_conv", "block2_expand_conv"],
    "size": ["32", "32x48"], "resize": ["crop", "pad", "crop:0.5"], "pooling": ["max", "none"],
    "page": ["1"], "channels": ["0,2,1", "0"], "pages": ["each"],
    "interpolation": ["keras"], "bit_depth": ["12"], "dtype": ["float16"], "scale": ["0..1"],
    "precision": ["bfloat16"], "runtime": ["openvino", "auto"], "views": ["2"],
    "augment": ["flip,rotate=9", "classic"], "name": ["mine", "photos"], "on_error": ["fail"],
    "test_from": ["validation:0.5", "train:0.2"], "out": ["out.csv", "out.head", "new/o.keras"],
    "plots": ["plots"], "cache": ["cache", "new-cache"], "c": ["0.1", "0.1,1"],
    "heads": ["centroid,knn", "logreg"], "grid": ["knn:neighbors=1,3", "logreg:C=1"],
    "hidden": ["4", "4x2"], "activation": ["relu"], "optimizer": ["adam"], "metric": ["cosine"],
    "class_weight": ["balanced"], "split": ["validation", "all"], "splits_from": ["photos"],
    "splits": ["splits.csv"], "destination": ["new"], "folder": ["demo"], "source": ["photos"],
    "search": ["lite"], "near": ["3"], "folds": ["2"], "epochs": ["1"], "jobs": ["1"],
    "unfreeze_from": ["head_conv"], "from_cut": ["no"], "cut_dtype": ["float16"],
    "mixed_precision": ["off"], "batch_size": ["4"], "steps_per_epoch": ["1"],
    "stop_at": ["accuracy:0.5"], "alpha": ["1.0"], "neighbors": ["3"], "top": ["2"],
}  # fmt: skip
#: Of one command where its options mean something else.
VALID_OF: dict[tuple[str, str], list[str]] = {
    ("dataset", "name"): ["digits", "cats_and_dogs"], ("evaluate", "head"): ["photos.head"],
    ("predict", "head"): ["photos.head"], ("split", "head"): ["photos.head"],
    ("views", "out"): ["views.png"], ("baseline", "out"): ["b.keras"], ("rm", "features"): [],
    ("finetune", "head"): ["cache/photos", "photos.head"], ("finetune", "out"): ["tuned"],
    ("fit-head", "head"): ["logreg", "centroid", "knn", "ridge", "svm"],
}  # fmt: skip
VALID_OF["rm", "features"] = ["photos", "other"]

#: What is written to: any text may stand there but a path that leads out of the tree.
WRITTEN = {"out", "plots", "cache", "destination", "folder", "splits"}
#: Where a large number is a wish that a long training fulfils: wrong, but no fault.
COUNTED = {"epochs", "steps_per_epoch", "folds"}
#: They load TensorFlow and a network, which takes seconds.
DEEP = {"baseline", "classify", "demo", "finetune", "layers"}

NASTY = [
    "", " ", ".", "..", "-", "--", "-1", "0", "nan", "inf", "1e400", "1_0", "\u0663", "0x10", "1,",
    ",", ":", "=", "a=b", "crop:", "crop:nan", "validation:nan", "validation:1e-320", "none",
    "None", "true", "x" * 300, "x/" * 700, "random:", "random:-1", "random:99999999999999999999",
    "knn:", "knn:neighbors=", "dense:hidden=x", "logreg:C=nan,inf", "svm:C=0", "\x1b[31mred",
    "\u202egnp.exe", "\x9b31m", "a\nb", "a\rb", "caf\u00e9", "\udcff", "%s{0}$HOME`id`", "*",
    "pipe", "photos", "photos.head", "manifest.csv", "cache", "out-link.csv", "out-link/../x",
    "work", "featcache.json", "flip,flip", "rotate=1e9", "zoom=.", "accuracy:2", "2x2x2", "0x0",
]  # fmt: skip
FOREIGN = [
    "../canary/documents", "../canary/documents/letter.txt", "../canary/documents/features.h5",
    "../canary/home/.bashrc", "../canary/images", "/", "//", "/dev/null", "/dev/zero",
    "/proc/self/mem", "/proc/self/environ", "../../../../../../etc/passwd", "~", "~nobody/x",
    "~no-such-user/x",
]  # fmt: skip
#: Another value of these needs another network.
NETWORK = {"backbone", "layer", "pooling", "precision", "runtime", "scale", "size", "weights"}
#: No images, no backbone: what needs them ends at once.
HOLLOW = ["", "nowhere", "pipe", "x" * 300, "photos.head/x", "\x1b[31mred"]
LARGE = ["2147483648", "9223372036854775808", "100000", "1" * 5000, "-9223372036854775809"]


@dataclass(frozen=True)
class Line:
    """A command line: `as_json` where it asks for JSON."""

    argv: tuple[str, ...]

    @property
    def as_json(self) -> bool:
        """What follows `--` is no option."""
        return "--json" in itertools.takewhile(lambda word: word != "--", self.argv)


PARAMETERS = {
    name: command.params for name, command in typer.main.get_command(app).commands.items()
}
COMMANDS = sorted(PARAMETERS)


@st.composite
def command_lines(draw: st.DrawFn, *, deep: bool, names: list[str] = COMMANDS) -> Line:
    """A command, its arguments, up to four of its options. Mostly valid, seldom wholly.

    Without `deep`, commands that need TensorFlow are given nothing that lets them begin.
    """
    name = draw(st.sampled_from(names))
    parameters = PARAMETERS[name]
    positional = [each for each in parameters if not each.opts[0].startswith("-")]
    options = [each for each in parameters if each.opts[0].startswith("-") and each.name != "json"]
    words: list[str] = []
    if name == "extract" or (name in {"finetune", "classify"} and draw(st.booleans())):
        words += ["--backbone", "efficientnet_lite0", "--size", "32"]
    if name in {"finetune", "baseline"}:
        words += ["--epochs", "1"]
    if not deep:
        options = [each for each in options if each.name != "measure"]
    chosen = draw(st.lists(st.sampled_from(options), max_size=4, unique_by=id)) if options else []
    for option in chosen:
        words.append(option.opts[0])
        if not option.is_flag:
            is_hollow = not deep and option.name in NETWORK
            words.append(draw(_values(name, option.name, odds=1.0 if is_hollow else 0.4)))
    for argument in positional:
        is_hollow = not deep and name in DEEP
        hollow = ["photos.head/x", "pipe"] if name == "demo" else HOLLOW
        values = st.sampled_from(hollow) if is_hollow else _values(name, argument.name, odds=0.25)
        words.append(draw(values))
    if draw(st.booleans()):
        words.append("--json")
    return Line((name, *words))


def _values(command: str, name: str, *, odds: float) -> st.SearchStrategy[str]:
    """Values of an option: wrong ones with some odds."""
    valid = VALID_OF.get((command, name), VALID.get(name, ["1"]))
    texts = st.text(st.characters(exclude_characters="\0"), max_size=12)
    wrong = [st.sampled_from(NASTY), st.sampled_from(NASTY), texts.filter(_is_encodable)]
    if name not in COUNTED:
        wrong.append(st.sampled_from(LARGE))
    if name not in WRITTEN:
        wrong.append(st.sampled_from(FOREIGN))
    strange = st.one_of(wrong)
    if name in WRITTEN:
        strange = strange.filter(lambda text: not text.startswith(("/", "~", "..")))
    picks = st.integers(0, 99)
    return picks.flatmap(lambda n: strange if n < odds * 100 else st.sampled_from(valid))


def _is_encodable(text: str) -> bool:
    """Whether it can be an argument at all: any bytes can, but not every half of a surrogate."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
