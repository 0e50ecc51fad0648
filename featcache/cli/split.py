"""featcache split"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show, table
from featcache.errors import FeatcacheError
from featcache.files.write import check_output

if TYPE_CHECKING:
    import numpy as np

    from featcache.evaluation.audit import Audit, Cleaned
    from featcache.features.features import Features
    from featcache.features.splits.division import Division
    from featcache.features.splits.partition import Shares

#: Near duplicates whose names are printed; --json has more.
SHOWN = 5


def register(app: typer.Typer) -> None:
    app.command("split")(command(split))


def split(
    features: o.FeaturesName,
    test: Annotated[
        float | None,
        typer.Option(help="Share of each class that tests.", show_default="0.2, or as before"),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share of each class that validates.", show_default="0, or as before"),
    ] = None,
    by_group: Annotated[
        bool,
        typer.Option("--by-group", help="Refuse images without groups; groups stay whole anyway."),
    ] = False,
    group_by: Annotated[
        str | None,
        typer.Option(help="Make a column of metadata the groups, which are never split."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed, another split.")] = None,
    near: Annotated[
        float | None,
        typer.Option(help="Cosine from which images are near duplicates.", show_default="0.98"),
    ] = None,
    no_near: Annotated[
        bool, typer.Option("--no-near", help="Do not look for near duplicates.")
    ] = False,
    splits_from: Annotated[
        str | None,
        typer.Option(help="A CSV of splits: to audit, or to keep while new images join."),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(help="Write path,split (and label, group, metadata) to this .csv."),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Say what a split leaks, instead of making one.")
    ] = False,
    head: Annotated[
        str | None, typer.Option(help="With --audit: the head whose accuracy is told.")
    ] = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Split images by the hash of their bytes so that nothing leaks, or audit a split."""
    from featcache.features.cache import load
    from featcache.features.splits.division import read_groups, read_splits
    from featcache.features.splits.duplicates import NEAR

    making = {"--test": test, "--validation": validation, "--seed": seed, "--splits": splits,
              "--by-group": by_group or None}  # fmt: skip
    _check_options(making, audit=audit, head=head, near=near, no_near=no_near)
    rows = load(features, cache=cache)
    if group_by:
        rows = rows.grouped_by(group_by)
    cosine = None if no_near else NEAR if near is None else near
    former = rows.splits
    if splits_from:
        former, remarks = read_splits(Path(splits_from), rows)
        groups, more = read_groups(Path(splits_from), rows)
        rows = replace(rows, groups=groups)
        for remark in [*remarks, *more]:
            say(f"note: {remark}")
    if audit:
        _audit(rows, former, cosine, head, json=json)
        return
    if by_group and (rows.groups == "").any():
        raise FeatcacheError(
            f"--by-group: {int((rows.groups == '').sum())} of {len(rows)} rows have no group; "
            f"groups come from the group column of a CSV manifest, or from --group-by COLUMN"
        )
    from featcache.features.splits.division import divide, write_splits

    if splits:
        check_output(splits, [splits_from] if splits_from else [])
    kept = former if splits_from else None
    shares = _shares(rows, kept, test, validation)
    division = divide(rows, shares, seed=seed or 0, near=cosine, former=kept)
    if splits:
        write_splits(splits, rows, division.splits)
    _show_division(rows, division, splits, json=json)


def _check_options(
    making: Mapping[str, object],
    *,
    audit: bool,
    head: str | None,
    near: float | None,
    no_near: bool,
) -> None:
    given = [option for option, value in making.items() if value is not None]
    if audit and given:
        raise FeatcacheError(f"--audit looks at a split, {', '.join(given)} makes one: leave out")
    if head and not audit:
        raise FeatcacheError("--head is for --audit: which head's accuracy to tell")
    if near is not None and no_near:
        raise FeatcacheError("--near and --no-near: give one of the two")


def _shares(
    rows: Features, former: np.ndarray | None, test: float | None, validation: float | None
) -> Shares:
    """The shares asked for; what was not asked for is as it was in the former split, and said."""
    from featcache.features.splits.division import shares_of_splits
    from featcache.features.splits.partition import Shares

    before = Shares() if former is None else shares_of_splits(rows, former)
    shares = Shares(
        before.test if test is None else test,
        before.validation if validation is None else validation,
    )
    if former is not None and (test is None or validation is None):
        say(
            f"note: new images are dealt as the others were: test {shares.test:g}, validation "
            f"{shares.validation:g} of each class (--test and --validation say otherwise)"
        )
    return shares


def _audit(
    rows: Features, former: np.ndarray, near: float | None, head: str | None, *, json: bool
) -> None:
    from featcache.evaluation.audit import audit
    from featcache.heads.head import Head

    loaded = Head.load(head) if head else None
    if loaded:
        loaded.check_fits(rows)
    found = audit(rows, former, near=near, head=loaded)
    if json:
        answer(found.to_dict())
    else:
        _show_audit(found)


def _show_audit(found: Audit) -> None:
    for remark in found.remarks:
        say(f"note: {remark}")
    show("images     " + ", ".join(f"{name} {count:,}" for name, count in found.images.items()))
    show(f"leaking    {found.leaking:,} images of a later split are given away by an earlier one")
    show(f"           same bytes {found.same_bytes:,}, near duplicates {found.near_duplicates:,}, "
         f"shared groups {found.shared_groups:,}")  # fmt: skip
    if found.cleaned:
        _show_cleaned(found.cleaned)
    if found.leaks:
        show("")
        table(
            [
                (
                    leak.kind,
                    f"{leak.image} ({leak.split})",
                    f"{leak.other} ({leak.other_split})",
                    "" if leak.similarity is None else f"{leak.similarity:.4f}",
                )
                for leak in found.leaks
            ],
            ("leak", "image", "given away by", "cosine"),
        )


def _show_cleaned(cleaned: Cleaned) -> None:
    low, high = cleaned.interval
    show(f"accuracy   {cleaned.accuracy:.4f} ({low:.4f} to {high:.4f}) on all {cleaned.rows:,} "
         f"{cleaned.split} images, by {cleaned.judge}")  # fmt: skip
    if cleaned.clean_accuracy is None or cleaned.clean_interval is None:
        show("without    no image is left without the leaking ones")
        return
    low, high = cleaned.clean_interval
    show(f"without    {cleaned.clean_accuracy:.4f} ({low:.4f} to {high:.4f}) on the "
         f"{cleaned.clean_rows:,} that leak nothing")  # fmt: skip


def _show_division(rows: Features, division: Division, out: Path | None, *, json: bool) -> None:
    from featcache.images.layout import SPLITS

    plain = rows.views == 0
    counts = {name: int((division.splits[plain] == name).sum()) for name in SPLITS}
    pairs = division.named_pairs(rows)
    for remark in [*division.remarks, *division.conflicts]:
        say(f"note: {remark}")
    if json:
        answer({"splits": None if out is None else str(out), "images": counts,
                "near_duplicates": pairs, "conflicts": division.conflicts,
                "remarks": division.remarks})  # fmt: skip
        return
    cells = [
        (
            label or "(no label)",
            *[
                int(((division.splits == name) & (rows.labels == label) & plain).sum())
                for name in SPLITS
            ],
        )
        for label in sorted(set(rows.labels.tolist()))
    ]
    table(cells, ("class", *SPLITS))
    show("images     " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for pair in pairs[:SHOWN]:
        show(f"near       {pair['image']}  {pair['other']}  {pair['similarity']:.4f}")
    show(f"written to {out}" if out else "not written: --splits FILE.csv writes it")
