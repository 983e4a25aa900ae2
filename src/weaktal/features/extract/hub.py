"""Backbones from `transformers` and `timm`: image and video models that these load, by name or from a folder.

A video model (VideoMAE, ViViT, TimeSformer: its configuration has `num_frames`) sees as many frames of a
snippet as it was made for, evenly spread; of an image model (CLIP, DINOv2, ViT, ...) the embeddings of some
frames of the snippet are averaged. One stream, "rgb".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weaktal.core import InputError
from weaktal.features.extract.backbone import Description, Image, Rows, windows
from weaktal.features.extract.compute import autocast, choose_device, file_digest

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NetworkFeatures:
    """Embeddings of snippets by a network that takes normalised pictures.

    Args:
        backbone: name for the description.
        embed: (B, T, 3, S, S) float to (B, D).
        size: S.
        mean, std: of the colours, in [0, 1].
        frames: T, of each window.
        settings: for the description.
        fps, window, stride: frames per second, frames of a snippet, frames between snippets.
        batch: snippets per pass.
        precision: "32", "bf16" or "16".
        device: where `embed` computes.
    """

    def __init__(
        self,
        backbone: str,
        embed: Callable[[Tensor], Tensor],
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        frames: int,
        settings: Mapping[str, Any],
        fps: float,
        window: int,
        stride: int,
        batch: int,
        precision: str,
        device: torch.device,
    ) -> None:
        if not 1 <= frames <= window:
            raise InputError(
                "a snippet has too few frames for this model", found=window, expected=f">= {frames}"
            )
        autocast(device, precision)
        self.backbone, self.embed, self.size, self.frames = backbone, embed, size, frames
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]
        self.settings, self.device, self.precision = dict(settings), device, precision
        self.fps, self.window, self.stride, self.batch = float(fps), window, stride, batch
        self.rows = np.linspace(0, window - 1, frames).round().astype(int)
        self.dim = self._run([np.zeros((frames, size, size, 3), np.uint8)]).shape[1]

    def describe(self) -> Description:
        return Description(
            self.backbone,
            fps=self.fps,
            window=self.window,
            stride=self.stride,
            dims={"rgb": self.dim},
            short_side=self.size,
            settings={
                **self.settings,
                "crop": "center",
                "flow": None,
                "frames_per_snippet": self.frames,
                "precision": self.precision,
            },
        )

    def extract(self, frames: Iterator[Image]) -> Iterator[Rows]:
        clips: list[Image] = []
        for clip in windows(frames, self.window, self.stride):
            top, left = (clip.shape[1] - self.size) // 2, (clip.shape[2] - self.size) // 2
            clips.append(clip[self.rows, top : top + self.size, left : left + self.size])
            if len(clips) == self.batch:
                yield {"rgb": self._run(clips)}
                clips = []
        if clips:
            yield {"rgb": self._run(clips)}

    @torch.inference_mode()
    def _run(self, clips: list[Image]) -> np.ndarray:
        x = torch.from_numpy(np.stack(clips)).to(self.device).permute(0, 1, 4, 2, 3)
        x = (x.float() / 255 - self.mean) / self.std
        with autocast(self.device, self.precision):
            out = self.embed(x)
        return out.float().cpu().numpy()


def transformers_features(
    model: str | None = None,
    *,
    backbone: str = "transformers",
    frames: int | None = None,
    fps: float = 25,
    window: int = 16,
    stride: int = 16,
    batch: int = 8,
    precision: str = "32",
    device: str = "auto",
) -> NetworkFeatures:
    """A model that `transformers.AutoModel` loads.

    Args:
        model: a local folder, or a name on the hub (which is fetched, once, by `transformers`).
        backbone: name for the description.
        frames: pictures per snippet; default what a video model was made for, 4 for an image model.
        fps, window, stride, batch, precision, device: see `NetworkFeatures`.

    Raises:
        InputError: no model named, or one that cannot be loaded or does not take pictures.
    """
    import transformers

    if model is None:
        raise InputError("which model?", expected="model=FOLDER or a name", hint="pass --set model=...")
    where = choose_device(device)
    try:
        network = transformers.AutoModel.from_pretrained(model).to(where).eval()
    except (OSError, ValueError) as error:
        raise InputError("cannot be loaded", file=model, found=str(error).strip().splitlines()[0]) from None
    config = network.config
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None)
    if size is None:
        raise InputError("this model does not take pictures", file=model, found=type(network).__name__)
    side = int(size if isinstance(size, int) else size[0])
    made_for = getattr(vision, "num_frames", None)
    mean, std = _colours(model)

    def embed(x: Tensor) -> Tensor:
        if made_for:
            return _pooled(network(pixel_values=x), video=True)
        flat = x.flatten(0, 1)
        if hasattr(network, "get_image_features"):
            out = network.get_image_features(pixel_values=flat)
            out = out if isinstance(out, Tensor) else _pooled(out)
        else:
            out = _pooled(network(pixel_values=flat))
        return out.reshape(*x.shape[:2], -1).mean(1)

    return NetworkFeatures(
        backbone,
        embed,
        size=side,
        mean=mean,
        std=std,
        frames=int(made_for or frames or min(4, window)),
        settings={"weights": _origin(model, config), "model": type(network).__name__},
        fps=fps,
        window=window,
        stride=stride,
        batch=batch,
        precision=precision,
        device=where,
    )


def _pooled(output: Any, *, video: bool = False) -> Tensor:
    """One vector per input: the pooled one where the model has it, else the mean over tokens."""
    pooled: Tensor | None = None if video else getattr(output, "pooler_output", None)
    if pooled is None:
        pooled = output.last_hidden_state.mean(1)
    return pooled.flatten(1)


def _colours(model: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the colours that a model was trained with; ImageNet's where it does not say."""
    from transformers.utils.hub import cached_file

    file = cached_file(model, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    said = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    return said.get("image_mean", IMAGENET[0]), said.get("image_std", IMAGENET[1])


def _origin(model: str, config: Any) -> dict[str, Any]:
    folder = Path(model)
    if folder.is_dir():
        files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin"))
        return {"file": folder.name, "sha256": "-".join(file_digest(p) for p in files)}
    return {"file": model, "sha256": getattr(config, "_commit_hash", None)}


def videomae(model: str | None = None, **options: Any) -> NetworkFeatures:
    """VideoMAE, see `transformers_features`."""
    return transformers_features(model, backbone="videomae", **options)


def clip(model: str | None = None, **options: Any) -> NetworkFeatures:
    """The image tower of CLIP, see `transformers_features`."""
    return transformers_features(model, backbone="clip", **options)


def timm_features(
    model: str | None = None,
    *,
    checkpoint: str | None = None,
    frames: int = 4,
    fps: float = 25,
    window: int = 16,
    stride: int = 16,
    batch: int = 8,
    precision: str = "32",
    device: str = "auto",
) -> NetworkFeatures:
    """An image model of `timm`.

    Args:
        model: its name.
        checkpoint: a local file of weights; without it, `timm` fetches the pretrained ones.
        frames: pictures per snippet.
        fps, window, stride, batch, precision, device: see `NetworkFeatures`.

    Raises:
        InputError: no model named, or an unknown one.
    """
    import timm

    if model is None:
        raise InputError("which model?", expected="model=NAME", hint="pass --set model=...")
    where = choose_device(device)
    try:
        network = timm.create_model(
            model, pretrained=checkpoint is None, checkpoint_path=checkpoint or "", num_classes=0
        )
    except (RuntimeError, OSError) as error:
        raise InputError("cannot be loaded", file=model, found=str(error).strip().splitlines()[0]) from None
    network = network.to(where).eval()
    data = timm.data.resolve_model_data_config(network)

    def embed(x: Tensor) -> Tensor:
        out: Tensor = network(x.flatten(0, 1))
        return out.reshape(*x.shape[:2], -1).mean(1)

    digest = file_digest(Path(checkpoint)) if checkpoint else None
    return NetworkFeatures(
        "timm",
        embed,
        size=int(data["input_size"][-1]),
        mean=data["mean"],
        std=data["std"],
        frames=min(frames, window),
        settings={"weights": {"file": checkpoint or model, "sha256": digest}, "model": model},
        fps=fps,
        window=window,
        stride=stride,
        batch=batch,
        precision=precision,
        device=where,
    )
