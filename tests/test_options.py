"""Described options: one class is what a function shows, what it takes, and what it says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, Unpack

import numpy as np
import pytest

from featcache.errors import FeatcacheError
from featcache.options import Option, complete, takes


class Sample(TypedDict, total=False):
    word: Annotated[Literal["soft", "hard"], Option("soft", "One of two words.")]
    count: Annotated[int | None, Option(None, "How many.", "all", least=1)]
    rate: Annotated[float, Option(0.5, "A number.")]
    side: Annotated[int | tuple[int, int] | None, Option(None, "A side, or two.")]
    switch: Annotated[bool, Option(False, "On or off.")]
    place: Annotated[str | Path | None, Option(None, "A folder.", "./x", variable="PLACE")]
    names: Annotated[Iterable[Any] | None, Option(None, "Names.")]


@takes(Sample)
def sample(
    what: Any,
    *,
    several: str | Sequence[str] = "",
    heard: Callable[[str], None] = print,
    **options: Unpack[Sample],
) -> dict[str, Any]:
    """What it does.

    Parameters
    ----------
    what: anything.
    options: those of `Sample`.

    Returns
    -------
    dict: what was given.
    """
    return {**options}


def test_the_signature_and_the_text_show_every_option():
    """`inspect.signature` has names, types and defaults, and the docstring a line for each."""
    shown = inspect.signature(sample).parameters
    assert list(shown) == [
        "what", "several", "heard", "word", "count", "rate", "side", "switch", "place", "names",
    ]  # fmt: skip
    assert shown["count"].default is None
    assert shown["count"].annotation == int | None
    text = inspect.getdoc(sample)
    assert "word: One of two words. Default: 'soft'.\ncount: How many. Default: all.\n" in text
    assert "place: A folder. Default: $PLACE, else ./x.\n" in text
    assert "those of" not in text
    assert text.index("names: Names.") < text.index("Returns")


@pytest.mark.parametrize(
    "right",
    [
        {"word": "hard"}, {"count": None}, {"count": np.int64(3)}, {"rate": 1}, {"rate": 0.25},
        {"side": 3}, {"side": (3, 4)}, {"side": [3, 4]}, {"switch": True}, {"place": Path("x")},
        {"place": "x"}, {"names": ["a"]}, {"names": np.array(["a"])}, {"names": iter("ab")}, {},
    ],
)  # fmt: skip
def test_right_values_are_handed_on_as_they_are(right):
    """What was given comes in, and nothing else; `complete` adds the defaults."""
    assert sample(1, **right) == right
    whole = complete(Sample, right)
    assert whole == {**dict.fromkeys(("count", "side", "place", "names")), "word": "soft",
                     "rate": 0.5, "switch": False, **right}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"wrod": "hard"}, r"sample\(\) has no option wrod; did you mean word\?"),
        ({"zzz": 1}, r"sample\(\) has no option zzz; there are what, several, heard, word"),
        ({"word": "herd"}, r"word 'herd': expected 'soft' or 'hard'; did you mean 'hard'\?"),
        ({"word": 1}, "word 1: expected 'soft' or 'hard'$"),
        ({"word": np.array(["hard"])}, "expected 'soft' or 'hard'"),
        ({"count": 0}, r"count 0: expected a whole number of at least 1 or None \(all\)"),
        ({"count": "3"}, "count '3': expected a whole number"),
        ({"count": 2.5}, r"count 2\.5: expected a whole number"),
        ({"count": True}, "count True: expected a whole number"),
        ({"rate": "x"}, "rate 'x': expected a number"),
        ({"rate": True}, "rate True: expected a number"),
        ({"side": "big"}, "side 'big': expected a whole number, two whole numbers or None"),
        ({"side": (1, 2, 3)}, "expected a whole number, two whole numbers or None"),
        ({"side": (1, "2")}, "expected a whole number, two whole numbers or None"),
        ({"switch": "yes"}, "switch 'yes': expected True or False"),
        ({"switch": 1}, "switch 1: expected True or False"),
        ({"place": 1}, r"place 1: expected text, a path or None \(\$PLACE, else \./x\)"),
        ({"names": 3}, "names 3: expected a list or None"),
        ({"several": 3}, "several 3: expected text or a list"),
        ({"several": ["a", 3]}, "expected text or a list"),
        ({"heard": 3}, "heard 3: expected a function"),
        ({"what": 2}, r"sample\(\): multiple values for argument 'what'"),
    ],
)
def test_wrong_names_and_values_get_a_sentence(wrong, words):
    """Never a TypeError from inside: the name, what it was, what it can be, and the nearest."""
    with pytest.raises(FeatcacheError, match=words):
        sample(1, **wrong)


def test_what_is_missing_or_too_much_is_said():
    """A call without an argument that is needed, or with one too many."""
    with pytest.raises(FeatcacheError, match=r"sample\(\): missing a required argument: 'what'"):
        sample()
    with pytest.raises(FeatcacheError, match=r"sample\(\): too many positional arguments"):
        sample(1, 2)
