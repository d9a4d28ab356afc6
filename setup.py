"""What setup.cfg cannot say: the packages that it finds, and one from a folder elsewhere."""

from setuptools import find_packages, setup

# setup.cfg (package_dir) says where the experiments lie: pip users get them, by name.
setup(packages=[*find_packages(include=["facehal*"]), "facehal.experiments"])
