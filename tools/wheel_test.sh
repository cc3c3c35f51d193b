#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment and runs the sans-IO tests against it from
# another folder, where no source tree can stand in for what the wheel lacks.
set -euo pipefail
cd "$(dirname "$0")/.."

elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT

echo "wheel-test: building the source distribution, and the wheel from it"
.venv/bin/python -m build --outdir "$elsewhere/dist" . &> "$elsewhere/log" ||
    { cat "$elsewhere/log"; exit 1; }
if tar tzf "$elsewhere"/dist/*.tar.gz | grep -E '/_native/[a-z_]+\.c$' | grep -v /crc32c.c; then
    echo "wheel-test: the source distribution ships generated C" >&2
    exit 1
fi

echo "wheel-test: installing it into a fresh environment"
.venv/bin/python -m venv "$elsewhere/venv"
"$elsewhere/venv/bin/python" -m pip install --quiet --upgrade pip
"$elsewhere/venv/bin/python" -m pip install --quiet "$elsewhere"/dist/*.whl --group pyproject.toml:test

cp -r tests tools pyproject.toml "$elsewhere"
cd "$elsewhere"
venv/bin/python -m pytest tests/unit -q
