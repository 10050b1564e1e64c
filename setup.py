"""Finds the packages: the root is the package ``sam2rt``, which pyproject.toml cannot map.

Also writes the README for the package index, which knows neither the checkout's files nor drawings.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithoutSetup(build_py):
    """This file lies in the package's folder and is no part of the package."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("sam2rt", "setup")]


def readme():
    """The README with absolute links, and without its drawing."""
    # builds run in the checkout's root
    project = Path("pyproject.toml").read_text(encoding="utf-8")
    source = re.search(r'^Source = "(.+)"$', project, re.M)[1]
    raw = source.replace("//github.com/", "//raw.githubusercontent.com/")
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"```mermaid\n.*?```\n\n", "", text, flags=re.S)
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\g<1>{raw}/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{source}/blob/main/", text)


# every folder with an __init__.py; tests and docs have none
packages = ["sam2rt", *(f"sam2rt.{name}" for name in find_packages("."))]
setup(
    packages=packages,
    cmdclass={"build_py": BuildWithoutSetup},
    long_description=readme(),
    long_description_content_type="text/markdown",
)
