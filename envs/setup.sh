#!/usr/bin/env bash
# Makes .venv from uv.lock. Looks for what Python packages cannot bring along, and gets uv where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# mediapipe links the first two, WeasyPrint (audit.pdf) loads the others
libraries="libEGL.so.1 libGLESv2.so.2 libpango-1.0.so.0 libpangoft2-1.0.so.0 libharfbuzz-subset.so.0 libfontconfig.so.1"
debian="libegl1 libgles2 libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
fedora="libglvnd-egl libglvnd-gles pango harfbuzz"

missing_libraries() {
    for name in $libraries; do
        python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$name" 2>/dev/null || echo "$name"
    done
}

if [ -n "$(missing_libraries)" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        # shellcheck disable=SC2086 # a list of packages
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $debian </dev/null
    fi
    missing=$(missing_libraries)
    if [ -n "$missing" ]; then
        echo "missing:" $missing "- ask an administrator to install them," >&2
        echo "on Debian and Ubuntu: apt-get install $debian; on Fedora: dnf install $fedora" >&2
        exit 1
    fi
fi

uv=$(command -v uv || true)
for there in "$HOME/.local/bin/uv" .uv/bin/uv; do
    if [ -z "$uv" ] && [ -x "$there" ]; then uv=$there; fi
done
if [ -z "$uv" ]; then
    echo "getting uv into .uv" >&2
    if python3 -m venv .uv 2>/dev/null && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; then
        uv=.uv/bin/uv
    else # a system without venv
        rm -rf .uv
        python3 -m pip install --quiet --user uv
        uv=$(python3 -m site --user-base)/bin/uv
    fi
fi

# Institutions often have their own certificate authority: trust what the system trusts (the old and the new name).
export UV_NATIVE_TLS="${UV_NATIVE_TLS:-1}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
# Bytecode now, once: where Python may not write it later, every start of Snakemake takes more than twice as long.
"$uv" sync --locked --quiet --compile-bytecode
