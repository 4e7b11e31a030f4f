"""The two sets of packages, and the script that installs one of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {"3.11": "card.txt", "3.12": "today.txt", "3.13": "today.txt"}
# A Python of some version, which makes environments of itself and keeps what it was asked.
FAKE_PYTHON = """#!/bin/sh
case "$1" in
  -c) echo {version} ;;
  -m) echo "$@" >> "$LOG"
      if [ "$2" = venv ]; then
        for folder; do :; done
        mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python"
      fi ;;
esac
"""


@pytest.mark.parametrize("python", LOCKS)
def test_the_lock_has_what_is_required(python):
    lock = (ROOT / "locks" / LOCKS[python]).read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.M))
    required = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        found = re.match(r'([\w.-]+)==([\w.]+)(?:; python_version (<|>=) "3.12")?\s*(?:#|$)', line)
        assert found or not line or line.startswith("#"), line
        if found and (not found[3] or (found[3] == "<") == (python == "3.11")):
            required[re.sub("[_.]", "-", found[1].lower())] = found[2]
    assert len(required) > 20
    assert required.items() <= locked.items()
    # Every package of a lock has hashes, or pip would refuse it.
    assert all(
        "--hash=sha256:" in part for part in re.split(r"^(?=[\w.-]+==)", lock, flags=re.M)[1:]
    )


@pytest.fixture
def make_environment(tmp_path):
    """Runs the script in a folder with locks, on a machine with the fake Pythons given by name."""
    (tmp_path / "locks").mkdir()
    for name in LOCKS.values():
        (tmp_path / "locks" / name).write_text(name)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cmp", "cp", "mkdir"):
        (tools / name).symlink_to(shutil.which(name))
    log = tmp_path / "log"

    def run(pythons, *arguments):
        for path in tools.glob("python*"):
            path.unlink()
        for name, version in pythons.items():
            stub = f"#!/bin/sh\necho 'no such version' >&2\nexit {127}\n"
            (tools / name).write_text(FAKE_PYTHON.format(version=version) if version else stub)
            (tools / name).chmod(0o755)
        log.write_text("")
        done = subprocess.run(
            [str(ROOT / "scripts/environment.sh"), "env", *arguments],
            cwd=tmp_path,
            env={"PATH": str(tools), "LOG": str(log)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    return run


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
class TestScript:
    @pytest.mark.parametrize(
        ("pythons", "lock"),
        [
            ({"python3.11": "3.11", "python3.13": "3.13"}, "card"),
            # The stub of a version manager does not start.
            ({"python3.11": None, "python3.12": "3.12", "python3.13": "3.13"}, "today"),
            ({"python3": "3.12"}, "today"),
        ],
    )
    def test_the_first_python_that_starts(self, make_environment, pythons, lock):
        status, said, asked = make_environment(pythons)
        assert status == 0, said
        assert {"card": "the card's set (Python 3.11", "today": "today's set (Python 3.1"}[
            lock
        ] in said
        assert "make environment PYTHON=" in said
        assert asked == [
            "-m venv env",
            f"-m pip install --quiet --require-hashes -r locks/{lock}.txt",
        ]
        assert make_environment(pythons) == (0, "", [])

    def test_another_lock_or_python_makes_it_anew(self, make_environment, tmp_path):
        pythons = {"python3.11": "3.11", "python3.13": "3.13"}
        make_environment(pythons)
        (tmp_path / "locks/card.txt").write_text("newer")
        assert make_environment(pythons)[2][0] == "-m venv --clear env"
        assert make_environment(pythons, "python3.13")[2] == [
            "-m venv --clear env",
            "-m pip install --quiet --require-hashes -r locks/today.txt",
        ]
        # Without a wish, the environment that is there is as good as another.
        assert make_environment(pythons) == (0, "", [])

    def test_an_environment_of_somebody_else_is_not_cleared(self, make_environment, tmp_path):
        (tmp_path / "env/bin").mkdir(parents=True)
        (tmp_path / "env/bin/kept").write_text("")
        status, said, asked = make_environment({"python3.11": "3.11"})
        assert (status, asked) == (2, [])
        assert "Move it away" in said
        assert (tmp_path / "env/bin/kept").exists()

    @pytest.mark.parametrize(
        ("pythons", "arguments", "words"),
        [
            ({}, (), "Found: none"),
            ({"python3": "3.9", "python3.11": None}, (), "Found: 3.9"),
            ({"python3.11": "3.11"}, ("python3.10",), "Found: python3.10, which does not start"),
            ({"python3.14": "3.14"}, ("python3.14",), "Found: python3.14, 3.14"),
        ],
    )
    def test_no_python_that_fits(self, make_environment, pythons, arguments, words):
        status, said, asked = make_environment(pythons, *arguments)
        assert (status, asked, said.count("\n")) == (2, [], 1)
        assert words in said


def test_an_import_that_fails_keeps_what_it_said(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\n"
        "os.write(2, b'I0000 00:00:1.2 3 port.cc:153] a note\\nthe true reason\\n')\n"
        "raise ImportError('no library')\n"
    )
    code = "import rfcx_tf, tensorflow"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    for level, noted in (("3", False), ("0", True)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**environment, "TF_CPP_MIN_LOG_LEVEL": level},
        )
        assert done.returncode == 1
        assert "the true reason" in done.stderr
        assert "ImportError: no library" in done.stderr
        assert ("a note" in done.stderr) is noted
