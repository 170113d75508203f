"""The built book in a real browser, cut off from all hosts but this machine."""

import functools
import http.server
import threading

import pytest

from . import chromium

RENDERED = """
(async () => {
  if (!document.querySelector('.math')) return {math: 0, rendered: 0, errors: 0};
  await MathJax.startup.promise;
  return {
    math: document.querySelectorAll('.math').length,
    rendered: document.querySelectorAll('.math mjx-container').length,
    errors: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
  };
})()
"""
# Frames that scroll by themselves may be wider inside; the page itself may not.
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
WRAPPED_SOURCE = """
[...document.querySelectorAll('.cell_output .highlight-python pre')]
  .filter((shown) => getComputedStyle(shown).whiteSpace !== 'pre').length
"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
FOUND = """
new Promise((found, none) => {
  const look = () => {
    const links = document.querySelectorAll('#search-results li a');
    if (links.length) found(links.length); else setTimeout(look, 50);
  };
  setTimeout(() => none(new Error('no search results')), 8000);
  look();
})
"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and does not log."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(book):
    """The address of the built book on this machine."""
    handler = functools.partial(QuietHandler, directory=str(book.html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """One headless Chromium for all pages."""
    program = chromium.find()
    if program is None:
        pytest.skip("no Chromium or Chrome on the PATH (on Debian: apt-get install chromium)")
    with chromium.Browser(program) as running:
        yield running


def requests_elsewhere(browser, site):
    return [url for url in browser.requests() if not url.startswith((site, "data:", "blob:"))]


def test_the_page_works_without_any_other_host(browser, site, page):
    browser.resize(1280, 900)
    browser.open(f"{site}{page}.html")
    rendered = browser.evaluate(RENDERED)
    assert requests_elsewhere(browser, site) == []
    assert browser.complaints() == []
    assert rendered["rendered"] >= rendered["math"]
    assert rendered["errors"] == 0


def test_the_page_fits_on_a_phone_in_the_dark(browser, site, page):
    browser.resize(390, 844, dark=True, phone=True)
    browser.open(f"{site}{page}.html")
    assert browser.evaluate(OVERFLOW) <= 0
    assert browser.evaluate(WRAPPED_SOURCE) == 0  # it scrolls, as the code of cells does
    red, green, blue = rgb(browser.evaluate(BACKGROUND))
    assert max(red, green, blue) < 64


def test_a_search_finds_a_word_of_the_book(browser, site):
    browser.resize(1280, 900)
    browser.open(f"{site}search.html?q=trimap")
    assert browser.evaluate(FOUND) >= 1
    assert requests_elsewhere(browser, site) == []


def test_a_request_to_another_host_would_be_seen(browser, site, tmp_path):
    (tmp_path / "page.html").write_text('<img src="http://other.example/a.png">')
    browser.open((tmp_path / "page.html").as_uri())
    assert "http://other.example/a.png" in requests_elsewhere(browser, site)
    assert any("ERR_NAME_NOT_RESOLVED" in said for said in browser.complaints())


def rgb(color):
    """Returns the three numbers of a color such as `rgb(20, 24, 28)`."""
    return [int(part) for part in color.strip("rgb()").split(",")[:3]]
