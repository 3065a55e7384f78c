"""The pictures of the sandbox's pages are there, small, and of the pages as they are."""

from tests import sandbox_pictures

PICTURE_BYTES_MAX = 100_000


def test_every_page_has_its_picture_and_they_are_of_its_templates():
    """Whoever changes a page takes the pictures anew: `.venv/bin/python -m tests.pictures`."""
    pictures = {path.stem: path.stat().st_size for path in sandbox_pictures.FOLDER.glob("*.png")}

    assert (sandbox_pictures.FOLDER / "README.md").read_text() == sandbox_pictures.page()
    assert pictures.keys() == sandbox_pictures.SHOTS.keys()
    assert [name for name, size in pictures.items() if size > PICTURE_BYTES_MAX] == []
