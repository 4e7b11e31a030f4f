"""The full recipe's training step in plain PyTorch, eager and compiled -> rows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.gpu_sizes import MEAN_BOX_S, Sizes
from benchmarks.gpu_timing import median_seconds
from benchmarks.stages.torch_resnet import torch_backbone
from benchmarks.stages.train import CLASSES, random_batch
from rfcx_tf.core.config import Config
from rfcx_tf.core.windows import class_window_cells


class Detector(nn.Module):
    """`build_detector` with a `per_class` head and a window as long as a crop.

    Images [batch, 1, frames, mels] -> float32 logits [batch, classes].
    """

    def __init__(self, config: Config):
        super().__init__()
        self.backbone, features = torch_backbone(config)
        self.dropout = nn.Dropout(config.model.head.dropout)
        self.logits = nn.Linear(2 * features, len(CLASSES))
        own = class_window_cells(config, CLASSES, MEAN_BOX_S)
        lengths = sorted(set(own))
        self.groups = [(n, [c for c, cells in enumerate(own) if cells == n]) for n in lengths]
        order = [c for _, classes in self.groups for c in classes]
        self.register_buffer("place", torch.tensor([order.index(c) for c in range(len(own))]))
        self.window_cells = config.window_cells

    def forward(self, image):
        cells = self.backbone(image)
        cells = torch.cat([cells.mean(3), cells.amax(3)], 1).transpose(1, 2)
        with torch.autocast(image.device.type, enabled=False):
            logits = self.logits(self.dropout(cells).float())
        pooled = []
        for length, classes in self.groups:
            begin = (self.window_cells - length) // 2
            own = logits[:, begin : begin + length, classes]
            pooled.append((own.mean(1) + own.amax(1)) / 2.0)
        return torch.cat(pooled, 1)[:, self.place]


def steps(config: Config, sizes: Sizes, variants: list[tuple[str, int, bool]]) -> Iterator[dict]:
    """Training steps; `variants` are precision, batch and whether the network is compiled.

    Channels last, autocast to bfloat16, fused AdamW, the fastest convolutions that cuDNN finds.
    """
    torch.backends.cudnn.benchmark = True
    for precision, batch_size, compiled in variants:
        try:
            yield _step(config, sizes, precision, batch_size, compiled)
        except Exception as error:
            kind = "compiled" if compiled else "eager"
            text = f"PyTorch, {kind}, {precision}, batch {batch_size}: {error!r:.300}"
            yield {"part": "note", "text": text}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _step(config: Config, sizes: Sizes, precision: str, batch_size: int, compiled: bool) -> dict:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    model = Detector(config).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.training.learning_rate,
        weight_decay=config.training.weight_decay,
        fused=device.type == "cuda",
    )
    batch = random_batch(config, batch_size)
    image = torch.from_numpy(batch["spectrogram"])[:, None].to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    target, known = (torch.from_numpy(batch[name]).to(device) for name in ("target", "known"))
    network = torch.compile(model) if compiled else model

    def repeat(count: int) -> float:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            mixed = precision == "mixed_bfloat16"
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                logits = network(image)
            losses = nn.functional.binary_cross_entropy_with_logits(
                logits, target, reduction="none"
            )
            loss = (losses * known).sum(1).mean()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    began = time.perf_counter()
    repeat(1)
    compile_s = time.perf_counter() - began
    # The search for the fastest convolutions takes more memory than they do.
    repeat(2)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, loss = median_seconds(repeat, sizes.round_s)
    return {
        "part": "step",
        "with": f"PyTorch, {'compiled' if compiled else 'eager'}",
        "precision": precision,
        "batch": batch_size,
        "value": batch_size / seconds,
        "unit": "examples / s",
        "memory_gib": (
            torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
        ),
        "first_s": compile_s,
        "loss": loss,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
