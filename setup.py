"""Finds the packages: the root is the package ``sam2rt``, which pyproject.toml cannot map."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithoutSetup(build_py):
    """This file lies in the package's folder and is no part of the package."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("sam2rt", "setup")]


# every folder with an __init__.py; tests and docs have none
packages = ["sam2rt", *(f"sam2rt.{name}" for name in find_packages("."))]
setup(packages=packages, cmdclass={"build_py": BuildWithoutSetup})
