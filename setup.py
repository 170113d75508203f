"""Puts results/ into the package: on Colab chapters 8 and 9 read them without the repository."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["seglib*"]), "seglib.chapters.measured"],
    package_dir={"seglib.chapters.measured": "results"},
    package_data={"seglib.chapters.measured": ["*.json"]},
)
