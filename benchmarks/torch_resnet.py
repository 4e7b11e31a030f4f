"""The same ResNet and training step in plain PyTorch, which is optional; CPU only."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from typing import Any

import numpy as np

from rfcx_tf.core.config import Config

_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def torch_is_there() -> bool:
    """Whether PyTorch can be imported."""
    return util.find_spec("torch") is not None


def torch_tasks(
    config: Config, batch: dict[str, np.ndarray], bfloat16: bool, steps: int, threads: int
) -> dict[str, Callable[[], Any]]:
    """The task `steps`: training steps on one batch; its value is the number of parameters.

    A basic-block ResNet without pooling after the stem, means over frequency and time, dropout,
    one dense layer; masked cross-entropy; AdamW. Tensors lie with channels last, in which
    PyTorch's convolutions on CPUs are fastest.
    """
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)

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
    parts += [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(config.model.head.dropout),
        nn.Linear(before, batch["target"].shape[1]),
    ]
    model = nn.Sequential(*parts).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    image = torch.from_numpy(batch["spectrogram"])[:, None].to(memory_format=torch.channels_last)
    target, known = torch.from_numpy(batch["target"]), torch.from_numpy(batch["known"])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(image)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits.float(), target, reduction="none"
        )
        ((losses * known).sum() / known.sum()).backward()
        optimizer.step()

    def run() -> int:
        for _ in range(steps):
            step()
        return sum(p.numel() for p in model.parameters())

    return {"steps": run}
