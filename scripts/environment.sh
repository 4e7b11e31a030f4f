#!/bin/sh
# Makes a virtual environment of one of the two sets of packages, unless it is there.
#   scripts/environment.sh FOLDER [PYTHON]
# PYTHON: the interpreter; default: the first of CANDIDATES that starts. Python 3.11 gets the card's
# set (locks/card.txt), 3.12 and 3.13 get today's (locks/today.txt).
set -eu
folder=$1
wanted=${2:-}
# 3.11 first: only its set has every package of the card. A plain python3 may be any version.
CANDIDATES="python3.11 python3.13 python3.12 python3 python"

# The version of a Python that has what an environment needs, or nothing. The stub of a version
# manager is found but does not start; Debian's Python may lack ensurepip.
version_of() {
  "$1" -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

lock_of() {
  case $1 in
    3.11) echo locks/card.txt ;;
    3.12 | 3.13) echo locks/today.txt ;;
  esac
}

if [ -z "$wanted" ]; then
  for lock in locks/card.txt locks/today.txt; do
    if cmp -s "$lock" "$folder/installed.txt"; then exit 0; fi
  done
  found=
  for candidate in $CANDIDATES; do
    version=$(version_of "$candidate")
    if [ -n "$(lock_of "$version")" ]; then
      wanted=$candidate
      break
    fi
    found="$found${version:+ $version}"
  done
  if [ -z "$wanted" ]; then
    echo "error: The environment needs Python 3.11, 3.12 or 3.13 with venv. Found:${found:- none}." \
      "Install one, on Debian and Ubuntu with its package python3-venv, or name one:" \
      "make PYTHON=/path/to/python3.12 ..." >&2
    exit 2
  fi
fi

version=$(version_of "$wanted")
lock=$(lock_of "$version")
if [ -z "$lock" ]; then
  echo "error: PYTHON must be Python 3.11, 3.12 or 3.13 with venv." \
    "Found: $wanted, ${version:-which does not start or has no venv}." >&2
  exit 2
fi
if cmp -s "$lock" "$folder/installed.txt" && [ "$(version_of "$folder/bin/python")" = "$version" ]; then
  exit 0
fi
if [ "$lock" = locks/card.txt ]; then
  set_name="the card's set (Python 3.11, TensorFlow 2.17, tensorflow-io, keras-cv)"
  other="today's (TensorFlow 2.21): make environment PYTHON=python3.13"
else
  set_name="today's set (Python $version, TensorFlow 2.21, without tensorflow-io and keras-cv)"
  other="the card's (TensorFlow 2.17 with both): make environment PYTHON=python3.11"
fi
echo "Installing $set_name into $folder: a few minutes, 3 GB. The other set is $other"
# An environment that this made is made anew; one of somebody else's is never cleared.
if [ -e "$folder/installed.txt" ]; then
  clear=--clear
elif [ -d "$folder" ] && [ "$(version_of "$folder/bin/python")" != "$version" ]; then
  echo "error: $folder must be new or of Python $version. Found: an environment of another Python," \
    "or half of one. Move it away." >&2
  exit 2
else
  clear=
fi
"$wanted" -m venv $clear "$folder"
"$folder/bin/python" -m pip install --quiet --require-hashes -r "$lock"
cp "$lock" "$folder/installed.txt"
