"""The table of augmentations: what turns each on, and the streams that it draws from."""

import pytest
import tensorflow as tf

from rfcx_tf.core.config import AugmentConfig, Config
from rfcx_tf.shards import augmentations
from rfcx_tf.shards.augmentations import AUGMENTATIONS, Augmentation, stream, vary

SEED = tf.constant([3, 4])
# What trained weights were drawn with.
NUMBERS = {
    **{"crop": 0, "fp": 1, "mixup": 2, "partner": 3, "partner_fp": 4, "mixup_weight": 5},
    **{"gain_sd": 6, "background": 7, "background_crop": 8, "background_weight": 9},
    **{"noise_sd": 10, "click": 11, "click_frame": 12},
    **{"stretch": 1, "equalizer_sd": 2, "band_shift": 3},
    **{"fp_flip": 0, "fp_paste_shift": 1, "fp_cut_paste": 2},
    **{"frequency_masks": 100, "time_masks": 200},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_streams_stay_what_they_were(name):
    for time in (0, 2):
        expected = tf.random.fold_in(SEED, NUMBERS[name] + time)
        assert stream(SEED, name, time).numpy().tolist() == expected.numpy().tolist()


def test_every_augmentation_is_turned_on_by_a_setting():
    assert AUGMENTATIONS.keys() <= AugmentConfig.model_fields.keys()


@pytest.mark.parametrize(("by_chance", "setting"), [(False, 2.0), (True, 0.5)])
def test_a_line_in_the_table_is_enough_for_another_one(monkeypatch, by_chance, setting):
    class Options(AugmentConfig):
        louder: float = 0.0

    def louder(example, config, seed):
        return example | {"spectrogram": example["spectrogram"] + 1.0}

    monkeypatch.setitem(AUGMENTATIONS, "louder", Augmentation(louder, "fp", by_chance))
    example = {"spectrogram": tf.zeros([4, 3, 1])}

    def share(setting, crops="fp", chosen=True):
        config = Config().model_copy(
            update={"augment": Options(louder=setting, fp_flip=0, fp_cut_paste=0)}
        )
        varied = [
            vary(example, crops, config, tf.constant([n, 0]), tf.constant(chosen))
            for n in range(40)
        ]
        return sum(float(v["spectrogram"][0, 0, 0]) for v in varied) / 40

    assert share(setting) == 1.0 if not by_chance else 0.2 < share(setting) < 0.8
    assert share(0.0) == share(setting, chosen=False) == share(setting, crops="mix") == 0.0
    assert "louder" not in augmentations._STREAM_NUMBERS, "its stream goes by its name"
