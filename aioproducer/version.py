"""The version of this package: the one place that says it. pyproject.toml reads it from here.

Not from the installed metadata: a program that was bundled into one file has none.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
