#!/bin/sh
# Print the path of a usable uv; install the pinned one into .tools/ when there is none.
# Needs no root, and works where Debian's python3 lacks venv.
set -eu

pinned=0.13.8
oldest=0.9.0   # older ones cannot read the lock file
tools="$(cd "$(dirname "$0")/.." && pwd)/.tools"

is_recent() {
    version=$("$1" --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" = "$oldest" ]
}

for candidate in "$(command -v uv || true)" "$tools/venv/bin/uv" "$tools/target/bin/uv"; do
    if [ -n "$candidate" ] && is_recent "$candidate"; then
        echo "$candidate"
        exit 0
    fi
done

python=$(command -v python3 || true)
if [ -z "$python" ]; then
    echo "No python3 on PATH; install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)." >&2
    exit 1
fi

install_in_venv() {
    "$python" -m venv "$tools/venv" >>"$tools/get-uv.log" 2>&1 &&
        "$tools/venv/bin/python" -m pip install --quiet "uv==$pinned" >>"$tools/get-uv.log" 2>&1 &&
        echo "$tools/venv/bin/uv"
}

install_in_target() {
    "$python" -m pip install --quiet --target "$tools/target" "uv==$pinned" >>"$tools/get-uv.log" 2>&1 &&
        echo "$tools/target/bin/uv"
}

apt_install_venv() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    apt-get update -qq >>"$tools/get-uv.log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >>"$tools/get-uv.log" 2>&1
    python=/usr/bin/python3
}

echo "Installing uv $pinned into $tools ..." >&2
mkdir -p "$tools"
rm -rf "$tools/venv" "$tools/target"
: >"$tools/get-uv.log"
install_in_venv && exit 0
rm -rf "$tools/venv"
install_in_target && exit 0
apt_install_venv && install_in_venv && exit 0

cat "$tools/get-uv.log" >&2
cat >&2 <<MESSAGE

uv $pinned could not be installed, neither in a virtual environment nor with pip (the log is above).
Do one of these, then run make again:
  apt-get install python3-venv       (as root; Debian keeps venv and pip in packages of their own)
  put uv on the PATH                 (https://docs.astral.sh/uv/getting-started/installation/)
Behind a private certificate authority set SSL_CERT_FILE; for a package mirror set PIP_INDEX_URL and UV_DEFAULT_INDEX.
MESSAGE
exit 1
