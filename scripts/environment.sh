# What scripts/node and scripts/test share: a Python, the project's own .venv, system packages.
# Sourced by bash, from the top of the checkout.

# Programs of the system administrator are not on everybody's PATH.
PATH="$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# The first Python on the PATH that is new enough.
find_python() {
    local name
    for name in python3 python3.11 python3.12 python3.13 python3.14; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "p2ptwist needs Python 3.11 or later; the python3 found here is:" \
        "$(python3 --version 2>/dev/null || echo none)"
}

# apt_install PACKAGE...: with nothing asked, and no daemon started.
apt_install() {
    local policy=/usr/sbin/policy-rc.d made=""
    command -v apt-get >/dev/null || die "Install these with your package manager: $*"
    [ "$(id -u)" = 0 ] || die "Missing system packages; run: sudo apt-get install $*"
    say "Installing system packages: $*"
    if [ ! -e "$policy" ]; then
        made=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    local status=0
    {
        DEBIAN_FRONTEND=noninteractive apt-get -q update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"
    } </dev/null >&2 || status=$?
    [ -z "$made" ] || rm -f "$policy"
    [ "$status" = 0 ] || die "apt-get could not install: $*"
}

# What is installed only to be run by tests shall neither run by itself nor start with the machine.
silence_daemon() {
    service "$1" stop >/dev/null 2>&1 || true
    update-rc.d "$1" disable >/dev/null 2>&1 || true
}

# ensure_venv [EXTRA]: make .venv hold this checkout and its dependencies, if it does not yet.
ensure_venv() {
    local extra="${1:-}" python stamp
    exec 9>.venv.lock
    flock 9
    stamp="$PWD $(sha256sum pyproject.toml | cut -d' ' -f1)"
    if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null &&
        { [ "$(cat .venv/installed 2>/dev/null)" = "$stamp $extra" ] ||
            [ "$(cat .venv/installed 2>/dev/null)" = "$stamp dev" ]; }; then
        exec 9>&-
        return
    fi
    python="$(find_python)" || exit 1
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    say "Installing p2ptwist into $PWD/.venv with $("$python" --version)"
    rm -f .venv/installed
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip --quiet --disable-pip-version-check install \
        --editable ".${extra:+[$extra]}" </dev/null >&2 ||
        die "pip could not install p2ptwist and what it depends on; see above"
    printf '%s' "$stamp $extra" >.venv/installed
    exec 9>&-
}
