"""The same ResNet and training step in plain PyTorch, which is optional."""

from __future__ import annotations

from importlib import util

import numpy as np

from benchmarks.timing import Tasks
from rfcx_tf.core.config import BackboneConfig, Config

_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def why_not_torch(config: Config) -> str:
    """Why PyTorch cannot be compared; empty if it can."""
    if util.find_spec("torch") is None:
        return "PyTorch is not installed and was not measured."
    backbone = config.model.backbone
    same = BackboneConfig(name=backbone.name, width=backbone.width, weights=backbone.weights)
    if backbone != same or backbone.name not in _BLOCKS:
        return f"PyTorch's network is a ResNet 10, 18 or 34 of stride 16, not {backbone.name}."
    return ""


def torch_backbone(config: Config):
    """Images [batch, 1, frames, mels] -> cells [batch, features, cells, bands], and the features.

    A basic-block ResNet without pooling after the stem, on an image that it normalises.
    """
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int):
            super().__init__()
            self.main = nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.Conv2d(after, after, 3, 1, 1, bias=False),
                nn.BatchNorm2d(after),
            )
            self.shortcut = nn.Identity()
            if stride != 1 or before != after:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                )
            self.last = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.last(self.main(x) + self.shortcut(x))

    backbone, width = config.model.backbone, config.model.backbone.width
    kernel = backbone.stem_kernel
    parts: list[nn.Module] = [
        nn.BatchNorm2d(1, affine=False),
        nn.Conv2d(1, width, kernel, 2, kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    before = width
    for stage, blocks in enumerate(_BLOCKS[backbone.name]):
        after = width * 2**stage
        for number in range(blocks):
            parts.append(Block(before, after, 2 if stage and not number else 1))
            before = after
    return nn.Sequential(*parts), before


def torch_tasks(
    config: Config, batch: dict[str, np.ndarray], steps: int, bfloat16: bool, threads: int
) -> Tasks:
    """The task `steps`: training steps on one batch; its value is the number of parameters.

    A basic-block ResNet without pooling after the stem, means over frequency and time, dropout,
    one dense layer; masked cross-entropy; AdamW. Channels come last: PyTorch's convolutions are
    fastest on CPUs that way.
    """
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    backbone, features = torch_backbone(config)
    model = nn.Sequential(
        backbone,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(config.model.head.dropout),
        nn.Linear(features, batch["target"].shape[1]),
    )
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    image = torch.from_numpy(batch["spectrogram"])[:, None].to(memory_format=torch.channels_last)
    target, known = torch.from_numpy(batch["target"]), torch.from_numpy(batch["known"])

    def run() -> int:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(image)
            losses = nn.functional.binary_cross_entropy_with_logits(
                logits.float(), target, reduction="none"
            )
            ((losses * known).sum() / known.sum()).backward()
            optimizer.step()
        return sum(p.numel() for p in model.parameters())

    return {"steps": run}
