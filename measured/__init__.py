"""What turns results/*.json into tables, pages and figures; `python -m measured README.md` does."""
