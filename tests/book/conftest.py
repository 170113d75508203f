"""What the tests of the built book share: its configuration, its pages, the HTML of each."""

import functools
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"


def toc_pages(node) -> list[str]:
    """Returns the documents that a table of contents names, in order."""
    if isinstance(node, list):
        return [page for item in node for page in toc_pages(item)]
    if isinstance(node, dict):
        here = [node[key] for key in ("root", "file") if key in node]
        return here + [page for item in node.values() for page in toc_pages(item)]
    return []


def pytest_generate_tests(metafunc):
    """Runs a test that takes `page` once for each page of the table of contents."""
    if "page" in metafunc.fixturenames:
        toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
        metafunc.parametrize("page", toc_pages(toc))


class Book:
    """The built book.

    Args:
        html: the folder of its HTML.
    """

    def __init__(self, html: Path):
        self.html = html
        self.toc = toc_pages(
            yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
        )
        self.config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        self.notebooks = [page for page in self.toc if (ROOT / f"{page}.ipynb").exists()]

    @functools.cache  # noqa: B019 - one book lives as long as the tests
    def soup(self, file: Path) -> BeautifulSoup:
        """Returns the parsed HTML of a file."""
        return BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")

    def page(self, name: str) -> BeautifulSoup:
        """Returns the parsed HTML of a page, named as in the table of contents."""
        return self.soup(self.html / f"{name}.html")

    def colab_url(self, page: str) -> str:
        """Returns the address at which Colab opens a page's notebook."""
        repository = self.config["repository"]
        owner_and_name = repository["url"].removeprefix("https://github.com/").strip("/")
        colab = self.config["launch_buttons"]["colab_url"]
        return f"{colab}/github/{owner_and_name}/blob/{repository['branch']}/{page}.ipynb"

    def download_url(self, page: str) -> str:
        """Returns the address of a page's notebook as a file."""
        repository = self.config["repository"]
        return f"{repository['url']}/raw/{repository['branch']}/{page}.ipynb"


@pytest.fixture(scope="session")
def book() -> Book:
    """The built book; fails when it has not been built."""
    if not (HTML / "index.html").exists():
        pytest.fail("_build/html holds no book, expected one to test. Run `make book` first.")
    return Book(HTML)
