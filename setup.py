"""Maps the three top-level folders into one import package (see docs/explanation/layout.md)."""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = {
    "nnunetv2_promise": "nnunetv2_promise",
    "nnunetv2_promise.trainers": "trainers",
    "nnunetv2_promise.network_architectures": "network_architectures",
}


def packages() -> list[str]:
    """Every import package, subpackages included."""
    names = []
    for package, folder in FOLDERS.items():
        names.append(package)
        names += [f"{package}.{name}" for name in find_packages(str(Path(__file__).parent / folder))]
    return names


setup(packages=packages(), package_dir=FOLDERS)
