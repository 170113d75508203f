#!/bin/sh
# Runs a script with a Python that can make the environment:  sh tools/python.sh SCRIPT [ARGUMENT...]
# PYTHON=/path/to/python names one; otherwise the first on the PATH that suits is taken. 3.12 comes
# first because Colab runs it, so that the same versions are tried in both places.
#
# Each is tried by running it, since a name on the PATH proves nothing: pyenv puts one there for every
# version it knows of, and Debian's Python comes without the modules that make an environment.

suits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
runs='import sys; sys.exit(sys.version_info < (3, 6))'

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c "$1" >/dev/null 2>&1 && printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3.12 python3.13 python3.11 python3 python; do
        "$name" -c "$1" >/dev/null 2>&1 && printf '%s\n' "$name" && return
    done
}

# Where none suits, one that merely runs goes on: the script says what is wrong with it.
python=$(find_python "$suits")
[ -n "$python" ] || python=$(find_python "$runs")
if [ -z "$python" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "make env: PYTHON=$PYTHON does not run as a Python 3: name one of 3.11, 3.12 or 3.13." >&2
    else
        echo "make env: no Python found: install Python 3.12 (3.11 and 3.13 do too) and run the same command again, or name one with make PYTHON=/path/to/python." >&2
    fi
    exit 1
fi
exec "$python" "$@"
