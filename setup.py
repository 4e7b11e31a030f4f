"""Names the packages; all else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

# The recipes of configs/ are installed inside the package, where `--config NAME` finds them.
RECIPES = "rfcx_tf.recipes"

setup(
    packages=[*find_namespace_packages(include=["rfcx_tf", "rfcx_tf.*"]), RECIPES],
    package_dir={RECIPES: "configs"},
)
