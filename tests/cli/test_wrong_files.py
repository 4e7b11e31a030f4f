"""Every file that a verb is told to read: where it is none, one line says so (status 2)."""

import pytest

from rfcx_tf.cli.main import main
from rfcx_tf.core.config import save_config

# FILE is what is wrong, also DIR, where a folder is right, and RECIPE, where an empty file is. The
# other words are as they should be.
COMMANDS = """
make-tfrecords --config RECIPE --data DATA --out OUT
make-tfrecords --config demo --data FILE --out OUT
train --config RECIPE --tfrecords SHARDS --run OUT
train --config TINY --tfrecords FILE --run OUT
train --config TINY --tfrecords SHARDS --run OUT --data FILE
train --config TINY --tfrecords SHARDS --run OUT --pseudo FILE
train --config TINY --tfrecords SHARDS --run OUT --start FILE
train --config configs/listeners/birdnet.yaml --model FILE --tfrecords SHARDS --run OUT
train --join FILE --run OUT
evaluate --scores FILE --truth TRUTH
evaluate --scores TRUTH --truth FILE
evaluate --scores TRUTH --truth TRUTH --species FILE
evaluate --run FILE
evaluate --events FILE --boxes TRUTH
evaluate --events EVENTS --boxes FILE
evaluate --events EVENTS --boxes BOXES --species FILE
calibrate --run FILE
calibrate --run RUN --truth FILE --out OUT.yaml
calibrate --run RUN --verdicts FILE --events EVENTS --out OUT.yaml
calibrate --run RUN --verdicts EVENTS --events FILE --out OUT.yaml
ensemble --run FILE --out OUT.yaml
ensemble --run RUN --truth FILE --out OUT.yaml
prior-shift --run RUN --scores FILE --out OUT.yaml
prior-shift --run FILE --scores TRUTH --out OUT.yaml
prior-shift --run RUN --scores TRUTH --weights FILE --out OUT.yaml
predict --run FILE --audio TRAIN --out OUT.csv
predict --run RUN --audio FILE --out OUT.csv
predict --run RUN --audio TRAIN --out OUT.csv --like FILE
predict --run RUN --audio TRAIN --out OUT.csv --prior FILE
predict --run RUN --audio TRAIN --out OUT.csv --weights FILE
predict --run RUN --audio TRAIN --out OUT.csv --events OUT.events.csv --calibration FILE
predict --run RUN --audio TRAIN --out OUT.csv --events OUT.events.csv --recording-times FILE
predict --run RUN --audio TRAIN --out OUT.csv --events OUT.events.csv --thresholds FILE
events --window-scores FILE --out OUT.csv
predict --server http://x:1 --model m --sample-rate 8000 --classes FILE --audio TRAIN --out OUT.csv
pseudo-label --config RECIPE --tfrecords SHARDS --run RUN --out OUT
pseudo-label --config TINY --tfrecords FILE --run RUN --out OUT
pseudo-label --config TINY --tfrecords SHARDS --run FILE --out OUT
pseudo-label --config TINY --tfrecords SHARDS --run RUN --audio FILE --out OUT
pseudo-label --config TINY --tfrecords SHARDS --run RUN --truth FILE --out OUT
report --run FILE --out OUT.html
report --run RUN --truth FILE --out OUT.html
report --events FILE --out OUT.html
report --events EVENTS --scores FILE --out OUT.html
report --events EVENTS --window-scores FILE --out OUT.html
report --events EVENTS --calibration FILE --out OUT.html
report --events EVENTS --recording-times FILE --out OUT.html
report --events EVENTS --left-out FILE --out OUT.html
report --events EVENTS --sites FILE --out OUT.html
report --events EVENTS --audio FILE --out OUT.html
review pick --events FILE --out OUT
review pick --events EVENTS --audio FILE --out OUT
review pick --events EVENTS --calibration FILE --out OUT
review pick --events EVENTS --data DIR --out OUT
review apply --review FILE --data DATA
review apply --review EVENTS --data DIR
export --run FILE --out OUT
export --run RUN --calibration FILE --out OUT
export --run RUN --weights FILE --out OUT
import-annotations --tables FILE --data DATA
check DIR
check --annotations FILE --audio TRAIN
serve --model FILE
"""
OUTPUTS = (".yaml", ".csv", ".events.csv", ".html")


@pytest.fixture
def wrong_files(tmp_path):
    """Paths by what is wrong with them. A ring of links stands for what may not be read."""
    paths = {name: tmp_path / f"{name}.wrong" for name in ("missing", "empty", "folder", "ring")}
    paths["empty"].touch()
    paths["folder"].mkdir()
    paths["ring"].symlink_to(paths["ring"])
    return paths


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines())
def test_one_line_says_what_is_wrong(
    command, wrong_files, tmp_path, tiny_data, tiny_shards, tiny_config, untrained_run, capsys
):
    save_config(tiny_config, tmp_path / "tiny.yaml")
    events = tmp_path / "events.csv"
    file = tiny_data / "train" / "tiny00.flac"
    events.write_text(
        "recording_id,file,species_id,species,start_s,end_s,low_hz,high_hz,score,probability,"
        f"start_time,end_time\ntiny00,{file},2,low,1,2,600,800,0.9,0.8,,\n"
    )
    words = {
        "DATA": tiny_data,
        "TRAIN": tiny_data / "train",
        "TRUTH": tiny_data / "train_truth.csv",
        "BOXES": tiny_data / "train_tp.csv",
        "SHARDS": tiny_shards,
        "RUN": untrained_run.path,
        "TINY": tmp_path / "tiny.yaml",
        "EVENTS": events,
    }
    words |= {f"OUT{end}": tmp_path / f"out{end}" for end in ("", *OUTPUTS)}
    right = {"DIR": "folder", "RECIPE": "empty"}
    found = {}
    for wrong, path in wrong_files.items():
        if any(right.get(word) == wrong for word in command.split()):
            continue
        known = words | dict.fromkeys(("FILE", *right), path)
        capsys.readouterr()
        status = main([str(known.get(word, word)) for word in command.split()])
        lines = capsys.readouterr().err.splitlines()
        if status != 2 or len(lines) != 1 or str(path) not in lines[0]:
            found[wrong] = (status, lines[-3:])
    assert not found
