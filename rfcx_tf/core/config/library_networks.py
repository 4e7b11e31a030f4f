"""Networks of keras-cv and keras-hub: the libraries' names for them and their published sizes.

Presets of keras-cv fetch even their sizes from the network, so these are arguments of its general
classes. Larger networks than about 25 million parameters are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class LibraryNetwork(NamedTuple):
    """A network of a library.

    Attributes:
        class_name: of the library's `models`.
        sizes: arguments of the class; input shape and rescaling are not among them.
    """

    class_name: str
    sizes: dict[str, Any]


_RESNETS = {
    18: ([2, 2, 2, 2], "basic_block"),
    34: ([3, 4, 6, 3], "basic_block"),
    50: ([3, 4, 6, 3], "block"),
}
_RESNET_FILTERS, _RESNET_STRIDES = [64, 128, 256, 512], [1, 2, 2, 2]
_DENSENETS = {121: [6, 12, 24, 16], 169: [6, 12, 32, 32], 201: [6, 12, 48, 32]}

# Of width and of depth (Tan and Le 2019); B0 to B4 of the first, of the second and of Lite.
_COEFFICIENTS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
_EFFICIENTNET = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
}
_SQUEEZES = {"stackwise_squeeze_and_excite_ratios": [0.25] * 7}
_EFFICIENTNET_V2 = {
    "stackwise_kernel_sizes": [3] * 6,
    "stackwise_num_repeats": [1, 2, 2, 3, 5, 8],
    "stackwise_input_filters": [32, 16, 32, 48, 96, 112],
    "stackwise_output_filters": [16, 32, 48, 96, 112, 192],
    "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25, 0.25],
    "stackwise_strides": [1, 2, 2, 2, 1, 2],
    "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * 3,
}
_EFFICIENTNET_V2_S = _EFFICIENTNET_V2 | {
    "stackwise_num_repeats": [2, 4, 4, 6, 9, 15],
    "stackwise_input_filters": [24, 24, 48, 64, 128, 160],
    "stackwise_output_filters": [24, 48, 64, 128, 160, 256],
}
# Of timm, whose weights keras-hub publishes.
_HUB_EFFICIENTNET = _EFFICIENTNET | {
    "stackwise_block_types": ["v1"] * 7,
    "min_depth": None,
    "use_depth_divisor_as_min_depth": True,
    "cap_round_filter_decrease": True,
    "dropout": 0,
}
_MOBILENETS = {
    "small": {
        "stackwise_expansion": [1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
        "stackwise_kernel_size": [3, 3, 3] + [5] * 8,
        "stackwise_stride": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [0.25, None, None] + [0.25] * 8,
        "stackwise_activation": ["relu"] * 3 + ["hard_swish"] * 8,
    },
    "large": {
        "stackwise_expansion": [1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160],
        "stackwise_kernel_size": [3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5],
        "stackwise_stride": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [None] * 3 + [0.25] * 3 + [None] * 4 + [0.25] * 5,
        "stackwise_activation": ["relu"] * 6 + ["hard_swish"] * 9,
    },
}
_YOLOS = {
    "xs": ([32, 64, 128, 256], [1, 2, 2, 1]),
    "s": ([64, 128, 256, 512], [1, 2, 2, 1]),
    "m": ([96, 192, 384, 576], [2, 4, 4, 2]),
    "l": ([128, 256, 512, 512], [3, 6, 6, 3]),
}


def _keras_cv() -> dict[str, LibraryNetwork]:
    networks = {}
    for version, kind in (("", "ResNetBackbone"), ("_v2", "ResNetV2Backbone")):
        for depth, (blocks, block) in _RESNETS.items():
            sizes = {
                "stackwise_filters": _RESNET_FILTERS,
                "stackwise_blocks": blocks,
                "stackwise_strides": _RESNET_STRIDES,
                "block_type": block,
            }
            networks[f"resnet{depth}{version}"] = LibraryNetwork(kind, sizes)
    for depth, repeats in _DENSENETS.items():
        sizes = {"stackwise_num_repeats": repeats}
        networks[f"densenet{depth}"] = LibraryNetwork("DenseNetBackbone", sizes)
    for number, (width, depth) in enumerate(_COEFFICIENTS):
        scale = {"width_coefficient": width, "depth_coefficient": depth}
        networks |= {
            f"efficientnet{version}_b{number}": LibraryNetwork(kind, sizes | scale)
            for version, kind, sizes in (
                ("v1", "EfficientNetV1Backbone", _EFFICIENTNET | _SQUEEZES),
                ("v2", "EfficientNetV2Backbone", _EFFICIENTNET_V2),
                ("lite", "EfficientNetLiteBackbone", _EFFICIENTNET),
            )
            if (version, number) != ("v2", 4)
        }
    sizes = _EFFICIENTNET_V2_S | {"width_coefficient": 1.0, "depth_coefficient": 1.0}
    networks["efficientnetv2_s"] = LibraryNetwork("EfficientNetV2Backbone", sizes)
    for size, sizes in _MOBILENETS.items():
        networks[f"mobilenet_v3_{size}"] = LibraryNetwork("MobileNetV3Backbone", sizes)
    for size, (channels, depth) in _YOLOS.items():
        sizes = {"stackwise_channels": channels, "stackwise_depth": depth}
        networks[f"yolo_v8_{size}_backbone"] = LibraryNetwork("YOLOV8Backbone", sizes)
    return dict(sorted(networks.items()))


def _keras_hub() -> dict[str, LibraryNetwork]:
    networks = {}
    for depth, (blocks, block) in _RESNETS.items():
        sizes = {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": _RESNET_FILTERS,
            "stackwise_num_blocks": blocks,
            "stackwise_num_strides": _RESNET_STRIDES,
            "block_type": "bottleneck_block" if block == "block" else block,
        }
        networks[f"resnet_{depth}"] = LibraryNetwork("ResNetBackbone", sizes)
    for depth, repeats in _DENSENETS.items():
        sizes = {"stackwise_num_repeats": repeats}
        networks[f"densenet_{depth}"] = LibraryNetwork("DenseNetBackbone", sizes)
    for number, (width, depth) in enumerate(_COEFFICIENTS):
        scale = {"width_coefficient": width, "depth_coefficient": depth}
        sizes = _HUB_EFFICIENTNET | _SQUEEZES | scale
        networks[f"efficientnet_b{number}"] = LibraryNetwork("EfficientNetBackbone", sizes)
    return dict(sorted(networks.items()))


LIBRARY_NETWORKS = {"keras_cv": _keras_cv(), "keras_hub": _keras_hub()}
