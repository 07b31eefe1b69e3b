#!/bin/sh
# Installs the gateway into a virtual environment of its own, from a hashed lock, and takes every build tool out again.
#
#   deploy/install.sh LOCK TARGET                  the gateway, with exactly what LOCK pins
#   deploy/install.sh LOCK TARGET PACKAGE...       only these packages and what they need, as LOCK pins them
#
# Run from the root of the source. The Dockerfile has no steps but these, so the tests run them where there is no
# container engine. PYTHON names another interpreter.
set -eu

if [ "$#" -lt 2 ]; then
    echo "usage: deploy/install.sh LOCK TARGET [PACKAGE...]" >&2
    exit 2
fi
lock=$1
target=$2
shift 2

python=${PYTHON:-python3}

# Without a pip of its own: there is nothing to take out again but setuptools.
"$python" -m venv --clear --without-pip "$target"
pip() {
    "$python" -m pip --python "$target/bin/python" --disable-pip-version-check --quiet "$@"
}

if [ "$#" -gt 0 ]; then
    part="$target/part.lock"
    "$python" deploy/lock_part.py "$lock" "$@" >"$part"
    pip install --no-deps --require-hashes --requirement "$part"
    rm "$part"
else
    pip install --no-deps --require-hashes --requirement "$lock"
    # setuptools is in every lock: the package is built from what is already here, and fetches nothing.
    pip install --no-deps --no-build-isolation --no-index .
    pip uninstall --yes setuptools
fi
pip check
