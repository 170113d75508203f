"""The HTML of the built book: whole, self-contained, and at peace with the configuration."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
HOST = re.compile(r"(?:https?:)?//(?!127\.0\.0\.1|localhost)[\w.-]+\.\w+", re.IGNORECASE)
CSS_LOAD = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")
# Names of formats, which nothing loads.
NAMESPACE = re.compile(r"https?://www\.w3\.org/[\w/.#]*")
LARGEST = 1.5e6  # bytes of one committed file


def elsewhere(address: str) -> bool:
    """Says whether loading this address would ask another host."""
    return bool(HOST.match(address.strip()))


def loaded_from_elsewhere(soup: BeautifulSoup) -> list[str]:
    """Returns what a page would load from other hosts; a plain link loads nothing."""
    found = []
    for tag in soup.find_all(True):
        names = ["src", "srcset", "data", "poster", "action", "background"]
        if tag.name == "link" and "canonical" not in tag.get("rel", []):
            names.append("href")
        if tag.name in ("use", "image"):
            names += ["href", "xlink:href"]
        found += [str(tag[name]) for name in names if name in tag.attrs and elsewhere(tag[name])]
        found += [url for url in CSS_LOAD.findall(tag.get("style", "")) if elsewhere(url)]
    for style in soup.find_all("style"):
        found += [url for url in CSS_LOAD.findall(style.get_text()) if elsewhere(url)]
    for script in soup.find_all("script", src=False):
        found += HOST.findall(NAMESPACE.sub("", script.get_text()))
    return found


def poor_alt_text(soup: BeautifulSoup) -> list[str]:
    """Returns the images whose alternative text is missing, or is the name of a file."""
    hashed = re.compile(r"[0-9a-f]{16,}")
    file_name = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)$", re.IGNORECASE)
    found = []
    for image in soup.find_all("img"):
        alt = (image.get("alt") or "").strip()
        if not alt or hashed.search(alt) or file_name.match(alt):
            found.append(f"{image.get('src')}: alt={alt!r}")
    return found


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<a href="https://example.org/paper.pdf">a plain link</a>', 0),
        ('<img src="../_images/pet.png" alt="A pet">', 0),
        ('<svg xmlns="http://www.w3.org/2000/svg"></svg>', 0),
        ('<img src="https://example.org/pet.png">', 1),
        ('<script src="//cdn.example.org/a.js"></script>', 1),
        ('<link rel="stylesheet" href="https://example.org/a.css">', 1),
        ('<p style="background: url(https://example.org/a.png)"></p>', 1),
        ('<style>@import "https://example.org/a.css";</style>', 1),
        ('<script>const from = "https://cdn.example.org/lib.js"</script>', 1),
        ('<iframe src="https://example.org"></iframe>', 1),
    ],
)
def test_the_check_for_other_hosts_finds_them(html, count):
    assert len(loaded_from_elsewhere(BeautifulSoup(html, "html.parser"))) == count


@pytest.mark.parametrize(
    ("alt", "count"),
    [
        ("A cat and its label map", 0),
        ("", 1),
        ("_images/22c60a0bfd54acf41d3bbca2e7a5ecf4.png", 1),
        ("22c60a0bfd54acf41d3bbca2e7a5ecf48a2f5e39", 1),
        ("figure.png", 1),
    ],
)
def test_the_check_of_alt_text_knows_good_from_bad(alt, count):
    soup = BeautifulSoup(f'<img src="a.png" alt="{alt}">', "html.parser")
    assert len(poor_alt_text(soup)) == count


def test_the_page_exists_and_says_something(book, page):
    file = book.html / f"{page}.html"
    assert file.exists(), f"{page} is in book/_toc.yml, but the book has no such page"
    article = book.page(page).find("article")
    assert article.find("h1"), f"{page} has no title"
    assert len(article.get_text()) > 300


def test_the_start_page_leads_to_the_book(book):
    refresh = book.soup(book.html / "index.html").find("meta", attrs={"http-equiv": "Refresh"})
    target = refresh["content"].partition("url=")[2]
    assert target == f"{book.toc[0]}.html"
    assert (book.html / target).exists()


def test_the_page_has_one_search_box(book, page):
    assert len(book.page(page).find_all("input", attrs={"type": "search"})) == 1


def test_the_page_loads_nothing_from_another_host(book, page):
    assert loaded_from_elsewhere(book.page(page)) == []


def test_no_style_sheet_loads_from_another_host(book):
    sheets = sorted(book.html.rglob("*.css"))
    assert sheets
    found = {
        f"{sheet.relative_to(book.html)}: {url}"
        for sheet in sheets
        for url in CSS_LOAD.findall(sheet.read_text(encoding="utf-8"))
        if elsewhere(url)
    }
    assert found == set()


def test_every_local_link_of_the_page_leads_somewhere(book, page):
    here = book.html / f"{page}.html"
    broken = []
    for tag, name in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")):
        for element in book.page(page).find_all(tag):
            address = element.get(name)
            if not address or urlparse(address).scheme or address == "#":
                continue
            target, anchor = urldefrag(address)
            path = unquote(urlparse(target).path)
            file = (here.parent / path).resolve() if path else here
            if not file.is_file():
                broken.append(address)
            elif anchor and file.suffix == ".html":
                soup = book.soup(file)
                named = soup.find(id=unquote(anchor)) or soup.find(attrs={"name": anchor})
                if not named:
                    broken.append(address)
    assert broken == []


def test_every_image_of_the_page_has_alt_text(book, page):
    assert poor_alt_text(book.page(page)) == []


def test_the_page_offers_colab_exactly_where_there_is_a_notebook(book, page):
    offered = {
        link["href"]
        for link in book.page(page).find_all("a", href=True)
        if link["href"].startswith(book.config["launch_buttons"]["colab_url"])
    }
    assert offered == ({book.colab_url(page)} if page in book.notebooks else set())


def test_the_book_has_notebooks(book):
    in_folder = {f"notebooks/{file.stem}" for file in (ROOT / "notebooks").glob("*.ipynb")}
    assert in_folder
    assert set(book.notebooks) == in_folder


def test_the_badges_of_each_notebook_name_the_repository(book):
    github = re.compile(
        r"https://(?:colab\.research\.google\.com/github|github\.com|raw\.githubusercontent\.com)"
        r"/[^\s)\"'\\]+\.ipynb"
    )
    for page in book.notebooks:
        notebook = json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))
        text = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
        wanted = {book.colab_url(page), book.download_url(page)}
        own = {url for url in github.findall(text) if url.endswith(f"/{page}.ipynb")}
        assert own == wanted, f"{page}: the badges and _config.yml name different addresses"


def test_the_repository_is_named_once(book):
    address = book.config["repository"]["url"]
    prose = [*(ROOT / "book").rglob("*.md"), *(ROOT / "book").rglob("*.py")]
    assert [file.name for file in prose if address in file.read_text(encoding="utf-8")] == []
    assert (ROOT / "_config.yml").read_text(encoding="utf-8").count(address) == 1


def test_math_is_rendered_by_the_vendored_mathjax(book, page):
    soup = book.page(page)
    if not soup.find(class_="math"):
        return
    (script,) = soup.find_all("script", src=re.compile("mathjax"))
    path = urlparse(script["src"]).path
    assert (book.html / f"{page}.html").parent.joinpath(path).resolve().is_file()


def test_some_page_has_math(book):
    assert any(book.page(page).find(class_="math") for page in book.toc)


def test_errors_in_outputs_are_only_those_that_are_meant(book, page):
    shown = len(book.page(page).select(".cell_output .traceback"))
    meant = 0
    if page in book.notebooks:
        notebook = json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))
        meant = sum(
            "raises-exception" in cell["metadata"].get("tags", []) for cell in notebook["cells"]
        )
    assert shown <= meant


def test_the_status_page_has_a_row_for_each_chapter(book):
    file = ROOT / "results" / "chapters.json"
    known = json.loads(file.read_text(encoding="utf-8"))["chapters"] if file.exists() else {}
    rows = book.page("book/status").find_all("tr")
    shown = {row.a["href"]: row.find_all("td")[1].get_text(strip=True) for row in rows if row.a}
    assert shown.keys() == {f"../{page}.html" for page in book.notebooks}
    for page in book.notebooks:
        took = known.get(Path(page).name)
        expected = f"{took['cpu_seconds']:.0f}" if took else "not measured"
        assert shown[f"../{page}.html"] == expected


def test_the_status_page_shows_versions_and_commit(book):
    cells = [
        [cell.get_text(strip=True) for cell in row.find_all("td")]
        for row in book.page("book/status").find_all("tr")
    ]
    shown = dict(row for row in cells if len(row) == 2)
    for name in ("tensorflow", "keras", "numpy", "Python", "jupyter-book"):
        assert re.match(r"\d+\.\d+", shown[name]), f"{name}: {shown.get(name)!r}"
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(\+changes)?", shown["Commit"])
    assert shown["Processor"]


def test_the_results_page_shows_each_result_or_says_that_it_is_missing(book):
    text = book.page("book/results").find("article").get_text(" ").replace("’", "'")
    source = (ROOT / "book" / "results.md").read_text(encoding="utf-8")
    files = [ROOT / "results" / f"{n}.json" for n in re.findall(r"{ep-results} ([\w-]+)", source)]
    assert len(files) == len(set(files)) > 0
    assert text.count("Not measured yet") == sum(not file.exists() for file in files)
    for file in filter(Path.exists, files):
        result = json.loads(file.read_text(encoding="utf-8"))
        assert result["data"]["note"] in text
        compared = {run.get("against") for run in result["runs"]}  # has no row of its own
        for run in result["runs"]:
            shown = next(run[key] for key in ("title", "saving", "stage") if key in run)
            assert shown in text or run["recipe"] in compared, shown


def test_every_reference_is_in_the_bibliography(book):
    bib = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{", bib, re.MULTILINE)
    listed = book.page("book/bibliography").select("div.citation")
    assert len(listed) == len(entries) > 0


def test_every_committed_file_of_the_book_is_small_and_accounted_for():
    note = (ROOT / "book" / "VENDORED.md").read_text(encoding="utf-8")
    files = [file for file in (ROOT / "book").rglob("*") if file.is_file()]
    large = [file.name for file in files if file.stat().st_size > LARGEST]
    assert large == []
    assets = (ROOT / "book" / "assets").rglob("*")
    unnamed = [
        file.name
        for file in assets
        if file.is_file() and file.name not in note and file.parent.name not in note
    ]
    assert unnamed == []
