#!/bin/sh
# Install the Debian packages that some features and tests need, as far as they are missing.
#
#   install-debian-packages.sh           as root: apt-get them; otherwise: say what to install
#   install-debian-packages.sh --list    only say what is missing
#
# Exit status 0 also when something stays missing: the core runs without these packages, and tests
# that need one skip (in CI they fail, see tests/conftest.py).
set -eu

missing=""
reasons=""

need() { # package, what it is for, test command...
    package=$1
    purpose=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing="$missing $package"
        reasons="$reasons    $package: $purpose
"
    fi
}

find_missing() {
    missing=""
    reasons=""
    need python3-dials "images other than NXmx, through dxtbx" /usr/bin/python3 -c "import dxtbx"
    need bitshuffle "HDF5 filter of most Eiger files, for dxtbx" sh -c 'ls /usr/lib/*/hdf5/serial/plugins/libh5bshuf.so'
    need mariadb-server-core "tests against a MariaDB server" sh -c 'command -v mariadbd || ls /usr/sbin/mariadbd'
    need mariadb-client-core "tests against a MariaDB server" sh -c 'command -v mariadb'
    need postgresql "the whole stack (make stack)" sh -c 'command -v postgres || ls /usr/lib/postgresql/*/bin/postgres'
    need libcifpp-data "tests of mmCIF files against wwPDB's dictionary" sh -c 'ls /usr/share/libcifpp/mmcif_pdbx.dic*'
    need slurm-wlm "tests of chunks as Slurm jobs" sh -c 'command -v slurmctld || ls /usr/sbin/slurmctld'
    need munge "tests of chunks as Slurm jobs" sh -c 'command -v munged || ls /usr/sbin/munged'
    need chromium "tests that look at the report in a browser" sh -c 'command -v chromium'
}

find_missing
[ -n "$missing" ] || exit 0

if [ "${1:-}" != "--list" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    echo "Installing Debian packages:$missing"
    apt-get update -qq || echo "apt-get update failed; trying with the lists at hand" >&2
    for package in $missing; do # one by one: a package that cannot be had must not keep out the others
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            echo "apt-get could not install $package" >&2
    done
    find_missing
    [ -n "$missing" ] || exit 0
fi

echo "Missing Debian packages (optional; what needs them is skipped):"
printf '%s' "$reasons"
echo "To install them, as root:  apt-get install --no-install-recommends$missing"
