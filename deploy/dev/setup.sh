#!/bin/sh
# Makes .venv/ from the locked requirements, with the project's own commands in it. `make setup|demo|test|check` call it.
#
#   deploy/dev/setup.sh box     what runs the box: make demo
#   deploy/dev/setup.sh tests   and what tests, lint and the browser add: make test, make check
#
# Needs python3 (3.11 to 3.14) and nothing else, a compiler neither; everything lands in the project's folder. A second run
# compares one checksum. What is installed is never taken away by asking for less.
set -eu
# What the shell says of other folders and other Pythons is not about ours.
unset CDPATH PYTHONHOME PYTHONPATH
cd "$(dirname "$0")/../.."

wanted=${1:?"box or tests"}
stamp=.venv/.locked
# For a newer one aiokafka has no wheel yet: it would have to be compiled.
fits='(3, 11) <= sys.version_info < (3, 15)'

# uv brings its own certificates and would not know a company's proxy; it does not know pip's variable either.
export UV_SYSTEM_CERTS=1
export UV_PYTHON_DOWNLOADS=never
# How somebody's own projects are installed: ours go into its folder, and our own code has no hash.
export PIP_USER=0
unset UV_REQUIRE_HASHES
if [ -n "${PIP_INDEX_URL:-}" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then
    export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
fi

give_up() {
    printf '%s\n' "setup: $*" >&2
    exit 1
}

lock() {
    cat requirements/*.txt pyproject.toml deploy/dev/setup.sh | cksum
}

installed() {
    [ -x .venv/bin/cb-dev ] && usable && [ -f "$stamp" ] && [ "$(sed -n 2p "$stamp")" = "$(lock)" ]
}

done_already() {
    installed && { [ "$wanted" = box ] || [ "$(level_installed)" = tests ]; }
}

# An editor may have made it, of another Python; one that is half made is no environment yet: what is installed into it would
# land among the machine's own packages. In a folder that was moved or copied its commands lead to where they were made, and to
# what stands there now.
usable() {
    .venv/bin/python -c "import sys; sys.exit(sys.prefix == sys.base_prefix or not $fits)" 2>/dev/null || return 1
    [ ! -f "$stamp" ] || [ "$(sed -n 3p "$stamp")" = "$(pwd -P)" ]
}

level_installed() {
    sed -n 1p "$stamp" 2>/dev/null || :
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11
    fi
    for python; do
        if "$python" -c "import sys; sys.exit(not $fits)" 2>/dev/null; then
            return
        fi
    done
    give_up "needs Python 3.11 to 3.14, and $1 is $("$1" --version 2>/dev/null || echo 'not there'). Name another one: make setup PYTHON=/path/to/python3"
}

# Two at once would install into, and take away from, the same folder. The lock lies on a file that is there anyhow,
# and ends with this process and those that it starts.
wait_for_others() {
    exec 9<>pyproject.toml
    "$python" - 9<&9 <<'END'
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("setup: another one is at work in this folder; waiting for it", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
END
}

find_uv() {
    for uv in "$(command -v uv || :)" .uv/bin/uv .uv/target/bin/uv; do
        if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then
            return
        fi
    done
    rm -rf .uv
    if "$python" -m venv .uv >/dev/null 2>&1 && fetch_uv .uv/bin/python; then
        uv=.uv/bin/uv
    elif "$python" -m pip --version >/dev/null 2>&1 && fetch_uv "$python" --target .uv/target; then
        # Debian forbids pip to touch the system; a folder of our own is allowed.
        uv=.uv/target/bin/uv
    elif "$python" -m venv .uv >/dev/null 2>&1 || "$python" -m pip --version >/dev/null 2>&1; then
        give_up "pip could not fetch uv (see above). Behind a proxy set HTTPS_PROXY; for a mirror set PIP_INDEX_URL."
    else
        give_up "$python has neither venv nor pip. On Debian and Ubuntu: apt-get install python3-venv"
    fi
}

fetch_uv() {
    "$1" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt ${2+"$2" "$3"}
}

# Whoever fetched uv by pip may have told pip alone, in a file, where packages are: pip.conf leads to a company's mirror.
index_of_pip() {
    case $uv in
        .uv/bin/uv) .uv/bin/python -m pip config get global.index-url 2>/dev/null ;;
        .uv/target/bin/uv) "$python" -m pip config get global.index-url 2>/dev/null ;;
    esac
}

if done_already; then
    exit 0
fi
find_python
wait_for_others
if done_already; then
    exit 0
fi
level=$wanted
if [ "$(level_installed)" = tests ]; then
    level=tests
fi
files="requirements/runtime.txt requirements/world.txt requirements/box.txt"
if [ "$level" = tests ]; then
    files="$files requirements/tests.txt requirements/browser.txt"
fi

find_uv
if [ -z "${UV_DEFAULT_INDEX:-}" ] && index=$(index_of_pip) && [ -n "$index" ]; then
    export UV_DEFAULT_INDEX="$index"
fi
usable || "$uv" venv --quiet --clear --python "$(command -v "$python")" .venv
# Noted only when all is done, so that a run that was cut short is done again.
rm -f "$stamp"
echo "setup: installing what $level needs into .venv (once, and again when the requirements change)"
# shellcheck disable=SC2086 - the file names are several words
"$uv" pip sync --python .venv/bin/python --no-build --require-hashes $files
"$uv" pip install --quiet --python .venv/bin/python --no-build-isolation --no-deps --editable .
{
    echo "$level"
    lock
    pwd -P
} >"$stamp"
