"""What pyproject.toml cannot say: where the kernels lie.

minidiff/kernels is a symbolic link to kernels/.  With it all packages lie where their names say, so `pip install -e`
puts the checkout on the path, where it is found before a mere folder called minidiff, such as the one that was cloned
into.  Without, setuptools installs a finder, which is asked last.
"""

from pathlib import Path

from setuptools import setup

linked = Path(__file__).with_name("minidiff").joinpath("kernels").is_dir()
setup(package_dir={"": "."} if linked else {"minidiff.kernels": "kernels"})
