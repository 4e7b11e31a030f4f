"""How scripts end: exit status and what stands on stderr."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from rfcx_tf.cli.arguments import add_config_arguments, read_folds, run_main
from rfcx_tf.core.config import load_config
from rfcx_tf.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

TRUTH = "recording_id,s0,s1,s2\na,0,1,0\nb,1,0,0\n"
# a: s1 has rank 2, 1/2. b: s0 has rank 1, 1. LWLRAP 3/4.
SCORES = "recording_id,s0,s1,s2\nb,0.9,0.1,0.2\na,0.9,0.8,0.1\n"


def evaluate(folder, *arguments):
    """Runs scripts/evaluate.py in another folder than the project's."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "evaluate.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def status_of(main):
    with pytest.raises(SystemExit) as exit:
        run_main(main)
    return exit.value.code


def raising(error):
    def main():
        raise error

    return main


def test_evaluate_prints_the_figures_and_ends_with_what_it_wrote(tmp_path):
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "scores.csv").write_text(SCORES)
    (tmp_path / "species.csv").write_text("species_id,name\n0,Coqui\n1,Owl\n2,Toad\n")
    result = evaluate(
        tmp_path,
        *("--scores", "scores.csv", "--truth", "truth.csv"),
        *("--species", "species.csv", "--out", "out/table.csv"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("LWLRAP 0.7500 ")
    assert "Owl" in result.stdout
    assert result.stdout.splitlines()[-1] == "Wrote out/table.csv."
    assert (tmp_path / "out" / "table.csv").read_text().startswith("class,name,positives,lwlrap,")


def test_evaluate_names_a_missing_file_in_one_line_with_status_2(tmp_path):
    (tmp_path / "truth.csv").write_text(TRUTH)
    result = evaluate(tmp_path, "--scores", "scores.csv", "--truth", "truth.csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: The table scores.csv cannot be read: No such file or directory.\n"
    )


def test_status_is_what_main_returns():
    assert status_of(lambda: None) == 0
    assert status_of(lambda: 0) == 0
    assert status_of(lambda: 1) == 1


def test_bad_input_and_interruption_take_one_line(capsys):
    assert status_of(raising(UserError("The rule. What was found."))) == 2
    assert capsys.readouterr().err == "error: The rule. What was found.\n"
    assert status_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0)


def test_a_reader_that_goes_away_is_no_error():
    script = (
        "from rfcx_tf.cli.arguments import run_main\n"
        "def main():\n"
        "    for line in range(100_000): print(line)\n"
        "run_main(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_config_arguments_go_to_load_config(tmp_path):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    arguments = parser.parse_args(
        ["--config", str(tmp_path / "c.yaml"), "--set", "seed=7", "--set", "training.epochs=3"]
    )
    config = load_config(arguments.config, arguments.overrides)
    assert (config.seed, config.training.epochs) == (7, 3)
    with pytest.raises(SystemExit):
        parser.parse_args([])


def test_folds_are_a_number_several_or_all():
    assert read_folds("all", 3) == [0, 1, 2]
    assert read_folds("4", 5) == [4]
    assert read_folds("3, 1,3", 5) == [3, 1]
    for text in ("", "1,", "-1", "1 2", "all,1", "x"):
        with pytest.raises(UserError, match="Received: "):
            read_folds(text, 5)
