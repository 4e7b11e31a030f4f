"""A residual network of two blocks, for tests of which the network is not the point.

Building graphs takes most of the time of short trainings and predictions, and it takes as long as
the network has layers. A process that reads a recipe with `SHORT_BACKBONE` imports this module
before.
"""

from rfcx_tf.core.config.backbone import BACKBONES
from rfcx_tf.model import resnet

# The first stage and the last, which does the striding of those between: 16 in all as well.
SHORT_BACKBONE = {"name": "resnet6", "stage_strides": (2, 1, 1, 4)}

BACKBONES["resnet6"] = BACKBONES["resnet10"]
resnet._STAGE_BLOCKS["resnet6"] = (1, 0, 0, 1)
