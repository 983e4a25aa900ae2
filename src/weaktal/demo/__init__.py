"""A data set of rendered videos, made at first use: `render` returns its description, demo.yaml."""

from weaktal.demo.render import CLASSES, render

__all__ = ["CLASSES", "render"]
