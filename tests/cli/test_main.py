"""The command `rfcx-tf`: which verb runs, its exit status and what stands on stderr."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rfcx_tf.cli import evaluate as evaluate_verb
from rfcx_tf.cli.main import VERBS, main, parse
from rfcx_tf.core.errors import UserError, WorkStopped

ROOT = Path(__file__).resolve().parents[2]
ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]
MODULES = [verb.replace("-", "_") for verb in ALL_VERBS]

TRUTH = "recording_id,s0,s1,s2\na,0,1,0\nb,1,0,0\n"
# a: s1 has rank 2, 1/2. b: s0 has rank 1, 1. LWLRAP 3/4.
SCORES = "recording_id,s0,s1,s2\nb,0.9,0.1,0.2\na,0.9,0.8,0.1\n"


def test_a_script_prints_the_figures_and_ends_with_what_it_wrote(tmp_path):
    """From another folder than the project's."""
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "scores.csv").write_text(SCORES)
    (tmp_path / "species.csv").write_text("species_id,name\n0,Coqui\n1,Owl\n2,Toad\n")
    result = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts" / "evaluate.py"),
            *("--scores", "scores.csv", "--truth", "truth.csv"),
            *("--species", "species.csv", "--out", "out/table.csv"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("LWLRAP 0.7500 ")
    assert "Owl" in result.stdout
    assert result.stdout.splitlines()[-1] == "Wrote out/table.csv."
    assert (tmp_path / "out" / "table.csv").read_text().startswith("class,name,positives,lwlrap,")


def test_a_missing_file_is_named_in_one_line_with_status_2(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.csv").write_text(TRUTH)
    result = run_script("evaluate", "--scores", "scores.csv", "--truth", "truth.csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: scores.csv cannot be read: No such file or directory.\n"


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_wrong_arguments_are_refused_in_one_line_with_status_2(verb, capsys):
    assert main([verb, "--no-such-option"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and f"See rfcx-tf {verb} --help." in line
    # Verbs may be spelt like their modules, and scripts are named like them.
    assert main([verb.replace("-", "_"), "--help"]) == 0
    assert f"usage: rfcx-tf {verb} " in capsys.readouterr().out
    assert (ROOT / "scripts" / f"{verb.replace('-', '_')}.py").is_file()


def documented_commands() -> list[str]:
    """The commands `rfcx-tf ...` of the documentation, recipes and verbs' help, one a line."""
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").rglob("*.yaml")]
    texts = [path.read_text() for path in files]
    texts += [importlib.import_module(f"rfcx_tf.cli.{name}").__doc__ for name in MODULES]
    lines = re.sub(r"\s*\\\n[ #]*", " ", "\n".join(texts)).splitlines()
    rows = [re.sub(r"^\| `([a-z- ]+)` \| `(--.+?)` \|.*", r"rfcx-tf \1 \2", line) for line in lines]
    commands = [line.lstrip("# ").split("  ")[0] for line in rows]
    return [line for line in commands if re.match(r"rfcx-tf [a-z-]+ (?!.*(VERB|\.\.\.))", line)]


def test_documented_commands_have_arguments_that_exist():
    commands = documented_commands()
    assert len(commands) > 30
    for command in commands:
        # Of a job array its number stands in the command.
        command = command.replace("$SLURM_ARRAY_TASK_ID", "3")
        parse(shlex.split(command.replace("[", "").replace("]", ""))[1:])


def test_help_lists_the_verbs_and_an_unknown_one_is_refused(capsys):
    assert main([]) == main(["--help"]) == 0
    assert capsys.readouterr().out.count("make-tfrecords") == 2
    assert main(["fly"]) == 2
    assert capsys.readouterr().err == "error: There is no verb 'fly'. See rfcx-tf --help.\n"


def test_help_imports_nothing_heavy():
    heavy = {"matplotlib", "numpy", "pandas", "pydantic", "tensorflow", "yaml"}
    code = (
        "import sys; from rfcx_tf.cli.main import main; "
        f"[main([verb, '--help']) for verb in {['--help', *ALL_VERBS]}]; "
        f"sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, "")


def status_of(monkeypatch, error) -> int:
    def run(arguments):
        raise error

    monkeypatch.setattr(evaluate_verb, "run", run)
    return main(["evaluate", "--run", "x"])


def test_bad_input_stopped_work_and_interruption_take_one_line(monkeypatch, capsys):
    assert status_of(monkeypatch, UserError("The rule. What was found.")) == 2
    assert capsys.readouterr().err == "error: The rule. What was found.\n"
    assert status_of(monkeypatch, WorkStopped("What is gone.")) == 1
    assert capsys.readouterr().err == "error: What is gone.\n"
    assert status_of(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert status_of(monkeypatch, ModuleNotFoundError(name="apache_beam.utils")) == 2
    assert capsys.readouterr().err == (
        "error: This needs apache_beam, which is not installed. Run: pip install 'rfcx-tf[bulk]'\n"
    )
    assert status_of(monkeypatch, ModuleNotFoundError(name="keras.src")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs keras, which {sys.executable} does not have" in line
    # A defect of ours keeps its traceback.
    with pytest.raises(ModuleNotFoundError):
        status_of(monkeypatch, ModuleNotFoundError(name="rfcx_tf.missing"))
    with pytest.raises(ZeroDivisionError):
        status_of(monkeypatch, ZeroDivisionError())


@pytest.mark.parametrize("command", ["-m rfcx_tf evaluate", "scripts/evaluate.py"])
def test_outside_the_environment_one_line_says_how_to_get_in(command):
    """A Python without packages."""
    result = subprocess.run(
        [sys.executable, "-S", *command.split(), "--run", "x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert re.match(r"error: This needs \w+, which .* does not have\. .*\.venv/bin/python", line)


def test_a_reader_that_goes_away_is_no_error():
    code = (
        "import sys; from rfcx_tf.cli import evaluate, main\n"
        "def run(arguments):\n"
        "    for line in range(100_000): print(line)\n"
        "evaluate.run = run\n"
        "sys.exit(main.main(['evaluate', '--run', 'x']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=600) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is full")
def test_a_full_disk_takes_one_line(monkeypatch, capsys):
    def full(arguments):
        print("half a line", file=open("/dev/full", "w", buffering=1))  # noqa: SIM115

    monkeypatch.setattr(evaluate_verb, "run", full)
    assert main(["evaluate", "--scores", "a.csv", "--truth", "b.csv"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: There must be room on the disk.")
    assert "No space left on device" in line
    with open("/dev/full", "w") as stdout:
        command = [sys.executable, "-m", "rfcx_tf", "--help"]
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: There must be room on the disk.")
