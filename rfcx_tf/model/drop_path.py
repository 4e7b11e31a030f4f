"""Stochastic depth (Huang et al. 2016): blocks that are left out of some examples in training."""

from __future__ import annotations

from keras import layers


def drop_path(branch, rate: float, block: int, blocks: int, name: str):
    """The branch of a residual block [batch, frames, bands, D], left out of some examples.

    The later a block, the more often: its chance is `rate` x `block` / `blocks`. What stays is
    divided by the chance to stay, so that the mean is that of inference, where nothing is left out.

    Args:
        branch: what is added to the shortcut.
        rate: chance of the last block, `model.backbone.drop_path`.
        block: number of the block, from 1.
        blocks: how many there are.
        name: of the block.
    """
    if rate == 0:
        return branch
    chance = rate * block / blocks
    return layers.Dropout(chance, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(branch)
