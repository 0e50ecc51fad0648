"""featcache demo, dataset"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.console import answer, command, say, show
from featcache.cli.options import Json, path


def register(app: typer.Typer) -> None:
    @app.command("demo")
    @command
    def demo(
        folder: Annotated[
            Path,
            typer.Argument(help="Where the demo puts its images and features.", parser=path),
        ] = Path("featcache-demo"),
    ) -> None:
        """The whole story on handwritten digits, offline, in under two minutes."""
        from featcache.cli.demo import run_demo

        def run(arguments: list[str]) -> None:
            code = app(arguments, standalone_mode=False)
            if code:
                raise typer.Exit(code)

        run_demo(folder, run, show)

    app.command("dataset")(command(dataset))


def dataset(
    name: Annotated[str, typer.Argument(help="digits, fashion_mnist or cats_and_dogs.")],
    destination: Annotated[Path, typer.Argument(help="A new or empty folder.", parser=path)],
    source: Annotated[
        str | None,
        typer.Option(help="Folder (or zip) with the original files, where they were downloaded."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a known data set as a folder of images."""
    from featcache.images.datasets import write_dataset

    say(f"writing {name} to {destination}")
    count = write_dataset(name, destination, source)
    if json:
        answer({"dataset": name, "path": str(destination), "images": count})
    else:
        show(f"{count:,} images in {destination}")
