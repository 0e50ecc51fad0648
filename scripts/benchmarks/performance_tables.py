"""The record of `extraction.py` as text: for the screen, or the tables of docs/performance.md."""

from __future__ import annotations


def screen(record: dict) -> str:
    """Everything that was measured."""
    lines = []
    for name, network in record["networks"].items():
        lines += [
            "",
            f"{name} at {network['side']} pixels, {network['images']} images, "
            f"{network['multiply_adds'] / 1e9:.2f} G multiply-adds an image",
            f"  {'hand-written loop':<18} {spread(network['loop'])} images/s",
            f"  {'one image decoded':<18} {spread(network['decode_ms'])} ms of a core",
        ]
        for setting, row in network["settings"].items():
            lines.append(
                f"  {setting:<18} {spread(row['rate'])} images/s, ratio {spread(row['ratio'])}, "
                f"error {row['error']:.1e}, {row['runtime']}"
            )
            lines.append(
                f"  {'':<18} start {spread(row['start_seconds'])} s (first run "
                f"{row['first_start']:.1f}), peak {row['peak_mb']:.0f} MB "
                f"(first run {row['first_peak_mb']:.0f})"
            )
            if "bound" in row:
                lines.append(
                    f"  {'':<18} network alone {spread(row['network'])} images/s; of the bound "
                    f"{spread(row['bound'])}; of the matrix rate {spread(row['matrix'])}"
                )
    lines += ["", "whole processes, seconds"]
    lines += [f"  {name:<28} {spread(values)}" for name, values in record["starts"].items()]
    rate = {key: value / 1e9 for key, value in record["matrix"].items()}
    lines += [
        "",
        f"matrix product: {spread(rate)} G float32 operations/s on {record['cores']} cores",
    ]
    return "\n".join(lines)


def markdown(record: dict) -> str:
    """The tables of docs/performance.md, each under its heading."""
    parts = [
        ("Extraction against the hand-written loop", _extraction(record)),
        ("Against the bound of the machine", _bounds(record)),
        ("Starts and memory", _starts(record)),
        ("Whole processes", _processes(record)),
    ]
    return "\n\n".join(f"### {heading}\n{table}" for heading, table in parts)


def _extraction(record: dict) -> str:
    rows = [
        (
            f"{name} at {network['side']}",
            spread(network["loop"]),
            setting,
            spread(row["rate"]),
            f"**{row['ratio']['median']:.1f}** ({row['ratio']['min']:.1f} .. "
            f"{row['ratio']['max']:.1f})",
            f"{row['error']:.1e}",
        )
        for name, network in record["networks"].items()
        for setting, row in network["settings"].items()
    ]
    heads = ("network", "loop, images/s", "setting", "featcache, images/s", "ratio", "error")
    return _table(heads, rows)


def _bounds(record: dict) -> str:
    rows = [
        (
            f"{name}, {setting}",
            f"{network['multiply_adds'] / 1e9:.2f}",
            spread(row["network"]),
            spread(network["decode_ms"]),
            spread(row["bound"]),
            spread(row["matrix"]),
        )
        for name, network in record["networks"].items()
        for setting, row in network["settings"].items()
        if "bound" in row
    ]
    heads = (
        "network, setting", "G multiply-adds an image", "network alone, images/s",
        "decoding, ms of a core", "share of the bound", "share of the matrix rate",
    )  # fmt: skip
    return _table(heads, rows)


def _starts(record: dict) -> str:
    rows = [
        (
            f"{name}, {setting}",
            f"{row['first_start']:.1f}",
            spread(row["start_seconds"]),
            f"{row['first_peak_mb'] / 1000:.2f}",
            f"{row['peak_mb'] / 1000:.2f}",
        )
        for name, network in record["networks"].items()
        for setting, row in network["settings"].items()
    ]
    heads = (
        "network, setting", "start, first run, s", "start, later runs, s",
        "peak, first run, GB", "peak, later runs, GB",
    )  # fmt: skip
    return _table(heads, rows)


def _processes(record: dict) -> str:
    return _table(
        ("what", "seconds"), [(name, spread(values)) for name, values in record["starts"].items()]
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: dict[str, float]) -> str:
    """The median, with the smallest and the largest where they differ."""
    median, low, high = (f"{values[key]:.3g}" for key in ("median", "min", "max"))
    return median if low == high else f"{median} ({low} .. {high})"
