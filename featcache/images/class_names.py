"""Names of classes that look alike: two spellings of one name are one class, and it is said."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from featcache.errors import some


def one_form(name: str) -> str:
    """The name as it is compared: Unicode's composed form, NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def one_forms(names: list[str]) -> list[str]:
    """Names in that form, where it leaves them different: older files have others."""
    composed = [one_form(name) for name in names]
    return composed if len(set(composed)) == len(names) else names


def settled(labels: Sequence[str], splits: Sequence[str]) -> tuple[list[str], list[str]]:
    """Labels in which a class has one name, and remarks.

    macOS writes "é" as two characters, other systems as one: composed, they are the same. Names
    that differ in case or spaces alone are one class where each split has one of them (train/Cat,
    test/cat); beside each other they stay two.
    """
    there = set(zip(labels, splits, strict=True))
    # Beside the composed name, in one folder, the other one is another folder on purpose.
    beside = {label for label, split in there
              if one_form(label) != label and (one_form(label), split) in there}  # fmt: skip
    composed = [label if label in beside else one_form(label) for label in labels]
    remarks = []
    both = {new for old, new in zip(labels, composed, strict=True) if old != new} & set(labels)
    if both:
        remarks.append(
            f"classes that Unicode writes in two ways are one: {some(sorted(both))} (NFC and NFD)"
        )
    counts = Counter(zip(composed, splits, strict=True))
    names: dict[str, str] = {}
    for spellings in _alike(sorted({label for label in composed if label})):
        if _stand_apart(spellings, counts):
            best = max(spellings, key=lambda name: (counts[name, "train"], sum(
                number for (each, _), number in counts.items() if each == name)))  # fmt: skip
            names |= dict.fromkeys(spellings, best)
            remarks.append(f"{some(spellings)} are read as one class, {best!r}")
        else:
            remarks.append(
                f"{some(spellings)} are different classes here, though they differ in case, "
                f"spaces or the form of Unicode alone: if they are one, give them one name"
            )
    return [names.get(label, label) for label in composed], remarks


def _alike(names: list[str]) -> list[list[str]]:
    """Names that are the same but for case and spaces; only those with a partner."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("".join(one_form(name).casefold().split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _stand_apart(spellings: list[str], counts: Counter[tuple[str, str]]) -> bool:
    """Whether no split has two of the spellings."""
    in_split = Counter(split for name, split in counts if name in spellings)
    return max(in_split.values()) == 1
