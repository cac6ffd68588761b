# Shared by the commands of this folder: finds a Python, keeps a virtual environment of the project.
# Sourced by bash scripts that have set `set -euo pipefail`. After `prepare_environment`, $PYTHON is
# the interpreter of the environment, with the project installed in place. Words go to stderr.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${PENSTOCK_VENV:-$ROOT/.venv}

# Tests and demos start hundreds of interpreters; where this is set each would compile everything.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

is_recent_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the path of the first interpreter that is recent enough.
find_python() {
    local name
    for name in ${PENSTOCK_PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$name" >/dev/null 2>&1 && is_recent_python "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Installs Debian packages when that is possible without asking anyone.
install_packages() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null 2>&1
}

has_ensurepip() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Makes an empty environment that has pip. A bare Debian Python has neither ensurepip nor pip.
make_environment() {
    local python=$1
    rm -rf "$VENV"
    if has_ensurepip "$python"; then
        "$python" -m venv "$VENV"
    elif command -v uv >/dev/null 2>&1; then
        uv venv --quiet --seed --python "$python" "$VENV"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet "$VENV"
    elif install_packages python3-venv && has_ensurepip "$python"; then
        "$python" -m venv "$VENV"
    else
        fail "$python cannot make virtual environments; on Debian: apt install python3-venv"
    fi
}

# What the environment depends on: the packages asked for, the interpreter, the place of the sources.
environment_key() {
    { cat "$ROOT/pyproject.toml"; "$1" -VV; printf '%s\n' "$1" "$ROOT"; } | sha256sum | cut -d' ' -f1
}

# Sets PYTHON; makes the environment anew when what it depends on has changed.
prepare_environment() {
    local python key stamp=$VENV/penstock-key
    python=$(find_python) || { install_packages python3 python3-venv && python=$(find_python); } \
        || fail "needs Python 3.11 or newer"
    key=$(environment_key "$python")
    PYTHON=$VENV/bin/python
    if [ -x "$PYTHON" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
        return
    fi
    say "preparing $VENV (once)"
    make_environment "$python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$ROOT[dev]" >&2
    printf '%s\n' "$key" >"$stamp"
}
