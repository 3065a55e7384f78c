"""The one option that every command of `cb-dev` has: which box."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path | None, typer.Option("--dir", file_okay=False, help="The box's folder; default: .dev of the project.")]
