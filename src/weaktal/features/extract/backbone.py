"""What a feature extractor is: two functions. Those that come with WeakTAL are found here by name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError, did_you_mean

Image = NDArray[np.uint8]
T = TypeVar("T")
Rows = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Description:
    """What a backbone's features are, as it is written beside them.

    Attributes:
        backbone: its name.
        fps: frames per second that it wants.
        window, stride: frames that a snippet sees, and frames between snippets.
        dims: width of each stream, in the order in which they are joined ("rgb" before "flow").
        centred: row ``i`` lies around the middle of its stride (the ends of the video are padded), and there
            are ceil(frames / stride) rows; if not, row ``i`` sees the frames ``i * stride`` and on.
        short_side, long_side: scaling of the frames before they are handed over, see `VideoReader`.
        settings: everything else that decides the numbers: weights, crop, flow, ... Plain JSON values.
    """

    backbone: str
    fps: float
    window: int
    stride: int
    dims: Mapping[str, int]
    centred: bool = False
    short_side: int | None = None
    long_side: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Snippets per second."""
        return self.fps / self.stride

    @property
    def offset(self) -> float:
        """Where the time axis begins, seconds: each row lies around the middle of its window."""
        return 0.0 if self.centred else (self.window - self.stride) / 2 / self.fps

    def header(self) -> dict[str, Any]:
        """What is written beside the features of every video."""
        return {
            "backbone": self.backbone,
            "rate": self.rate,
            "window": self.window / self.fps,
            "stride": self.stride / self.fps,
            "offset": self.offset,
            "fps": self.fps,
            "window_frames": self.window,
            "stride_frames": self.stride,
            "short_side": self.short_side,
            "long_side": self.long_side,
            **self.settings,
        }


class Backbone(Protocol):
    """A feature extractor. An own one has these two functions, and nothing to inherit from::

        class Brightness:
            def describe(self):
                return Description("brightness", fps=25, window=16, stride=16, dims={"rgb": 1})

            def extract(self, frames):
                for clip in windows(frames, 16, 16):
                    yield {"rgb": clip.mean(keepdims=True).reshape(1, 1) / 255}

    and is used as ``weaktal extract VIDEOS --backbone my_file.py:Brightness --out DIR``.
    """

    def describe(self) -> Description:
        """What the features are."""
        ...

    def extract(self, frames: Iterator[Image]) -> Iterator[Rows]:
        """Features of one video.

        Args:
            frames: RGB pictures (H, W, 3), uint8, at the described rate; read once, in order.

        Yields:
            For one or more snippets, in order: each stream's rows, (n, width) float32.
        """
        ...


BUILT_IN = {
    "motion": "weaktal.features.extract.motion:Motion",
    "efficientnet": "weaktal.features.extract.efficientnet:EfficientNetFeatures",
    "efficientnet+motion": "weaktal.features.extract.efficientnet:efficientnet_motion",
    "i3d": "weaktal.features.extract.i3d:I3DFeatures",
    "videomae": "weaktal.features.extract.hub:videomae",
    "clip": "weaktal.features.extract.hub:clip",
    "transformers": "weaktal.features.extract.hub:transformers_features",
    "timm": "weaktal.features.extract.hub:timm_features",
}


def load_backbone(name: str, options: Mapping[str, Any] | None = None, *, trusted: bool = False) -> Backbone:
    """A backbone by name ("motion"), or a user's own by ``module:factory`` or ``file.py:factory``.

    Args:
        name: which one.
        options: keyword arguments of its factory.
        trusted: the user named it, on the command line or in a program. Names from files (a run's
            configuration, a header of features) may only be those of built-in backbones: to load any other is
            to run code.

    Raises:
        InputError: an unknown name, one that is not trusted, an unknown option, a missing package.
    """
    if not isinstance(name, str) or (name not in BUILT_IN and not trusted and ":" in name):
        raise InputError(
            "a file names a backbone that is not built in, and code is loaded from the command line alone",
            found=name,
            expected="one of " + ", ".join(BUILT_IN),
            hint="if you trust that code, name it with --backbone",
        )
    place = BUILT_IN.get(name, name)
    module_name, _, attribute = place.rpartition(":")
    if not module_name:
        raise InputError(
            "unknown backbone",
            found=repr(name),
            expected="one of " + ", ".join(BUILT_IN) + ", or your own as file.py:NAME",
            hint=did_you_mean(name, BUILT_IN),
        )
    try:
        factory: Callable[..., Backbone] = getattr(_module(module_name), attribute)
    except AttributeError:
        raise InputError("no such backbone in this module", file=module_name, found=repr(attribute)) from None
    except ModuleNotFoundError as error:
        raise _missing(name, error) from None
    try:
        return factory(**(options or {}))
    except ModuleNotFoundError as error:
        raise _missing(name, error) from None
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise InputError(f"options of the backbone {name!r}: {error}") from None


def _missing(name: str, error: ModuleNotFoundError) -> InputError:
    extra = {"motion": "video", "i3d": "video", "timm": "timm"}.get(name, "backbones")
    if name.startswith("efficientnet"):
        extra = "image"
    return InputError(
        f"the backbone {name!r} needs a package that is not installed",
        found=f"no module {error.name!r}",
        hint=f"pip install 'weaktal[{extra}]'" if name in BUILT_IN else None,
    )


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    if not path.is_file():
        raise InputError("no such file", file=path)
    spec = importlib.util.spec_from_file_location(f"weaktal_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def windows(frames: Iterator[Image], window: int, stride: int) -> Iterator[Image]:
    """Clips (window, H, W, 3) that start every `stride` frames; an incomplete last one is left out.

    >>> video = (np.full((2, 2, 3), k, np.uint8) for k in range(7))
    >>> [clip[:, 0, 0, 0].tolist() for clip in windows(video, 4, 2)]
    [[0, 1, 2, 3], [2, 3, 4, 5]]
    """
    return map(np.stack, sliding(frames, window, stride))


def sliding(items: Iterator[T], window: int, stride: int) -> Iterator[list[T]]:
    """Lists of `window` items that start every `stride` items; an incomplete last one is left out.

    >>> list(sliding(iter(range(9)), 2, 3))
    [[0, 1], [3, 4], [6, 7]]
    """
    kept: list[T] = []
    skip = 0
    for item in items:
        if skip:
            skip -= 1
            continue
        kept.append(item)
        if len(kept) == window:
            yield list(kept)
            skip = max(0, stride - window)
            del kept[:stride]
