"""Brings the tables and figures of pages up to date: `python -m measured README.md`."""

import pathlib
import sys

from measured.pages import draw_leaderboard, fill_page

for argument in sys.argv[1:]:
    page = pathlib.Path(argument)
    if page.suffix == ".svg":
        draw_leaderboard(page)
    else:
        page.write_text(fill_page(page), encoding="utf-8")
