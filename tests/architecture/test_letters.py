"""The pictures of the letters are there, small, and of the letters as they are."""

from tests import pictures

PICTURE_BYTES_MAX = 100_000


def test_every_letter_has_its_pictures_and_they_are_of_its_templates():
    """Whoever changes a template takes the pictures anew: `.venv/bin/python -m tests.pictures`."""
    shown = (pictures.FOLDER / "README.md").read_text()
    wanted = {f"{name}-{width}-{scheme}.png" for name in pictures.LETTERS for width, scheme in pictures.VIEWS}

    assert f"<!-- of {pictures.of_what()} -->" in shown
    assert {path.name for path in pictures.FOLDER.glob("*.png")} == wanted
    assert all(f"]({name})" in shown for name in wanted)
    assert [path.name for path in pictures.FOLDER.glob("*.png") if path.stat().st_size > PICTURE_BYTES_MAX] == []
