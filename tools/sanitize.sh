#!/usr/bin/env bash
# Builds the native modules with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the
# tree, so that the normal build stays as it is, and runs the tests that reach them most.
# Arguments are given to pytest in place of the selection, as in: tools/sanitize.sh tests/loop
set -euo pipefail
cd "$(dirname "$0")/.."

copy=build/sanitize
python=$PWD/.venv/bin/python
selection=(tests/unit/_native tests/unit/protocol tests/fuzz tests/loop/test_acks.py
    tests/loop/test_bad_input.py tests/loop/test_buffer_memory.py tests/loop/test_connections.py
    tests/loop/test_delivery_modes.py tests/loop/test_flush_close.py
    tests/loop/test_corrupted_responses.py tests/loop/test_retries.py tests/loop/test_sequences.py
    tests/loop/test_transactions.py)
[ $# -eq 0 ] || selection=("$@")

echo "sanitize: building the native modules in $copy"
mkdir -p "$copy"
rm -rf "$copy"/{aioproducer,docs,tests,tools}
cp -rp aioproducer docs tests tools pyproject.toml README.md LICENSE "$copy"
cd "$copy"
find aioproducer -name '*.so' -delete -o -name '*.pyx' -exec sh -c 'rm -f "${0%pyx}c"' {} \;
# -fno-wrapv: Python asks for the opposite, which would hide every signed overflow.
flags="-O1 -g -UNDEBUG -fno-wrapv -fno-omit-frame-pointer"
flags+=" -fsanitize=address,undefined -fno-sanitize-recover=undefined"
CFLAGS="$flags" LDFLAGS="-fsanitize=address,undefined" \
    "$python" -W ignore -c 'from setuptools import setup; setup()' \
    --quiet build_ext --inplace --force --parallel 2 &> build.log || { cat build.log; exit 1; }

echo "sanitize: testing"
# Leaks are not looked for: the interpreter keeps too much until its end.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    "$python" -m pytest -q -o timeout=200 "${selection[@]}"
echo "sanitize: clean under address and undefined: ${selection[*]}"
