"""Takes out of an image's packages what no process reads: `python trim.py SITE_PACKAGES`, where they have just been installed.

Enters: the folder. Leaves: the folder without what DROPPED matches, and every compiled module without debugging symbols.
Patterns, not a list of files, so that a package's next version is trimmed as well. Next: bytecode.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path

LOCALES = ("root", "en")  # the letters' own, and what it inherits from
# Patterns of paths below the folder, and what they are.
DROPPED = {
    "babel/locale-data/*.dat": "the words of 1,100 locales, 30 MB; letters are written in one",
    "*/tests": "packages' own tests",
    "sqlalchemy/testing": "what tests of SQLAlchemy's dialects stand on",
}
KEPT = {f"babel/locale-data/{locale}.dat" for locale in LOCALES}


def dropped(folder: Path) -> list[Path]:
    """Return the paths to remove."""
    kept = {folder / name for name in KEPT}
    return sorted(path for pattern in DROPPED for path in folder.glob(pattern) if path not in kept)


def drop(folder: Path) -> None:
    """Remove it."""
    for path in dropped(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def main() -> None:
    """Trim the folder that is named."""
    folder = Path(sys.argv[1])
    drop(folder)
    for module in folder.rglob("*.so"):
        subprocess.run(["/usr/bin/strip", "--strip-unneeded", module], check=True)  # noqa: S603 - a file of our own lock


if __name__ == "__main__":
    main()
