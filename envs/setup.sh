#!/usr/bin/env bash
# Makes .venv from uv.lock. Looks for what Python packages cannot bring along, and gets uv where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

needs_libraries() {
    ! python3 -c 'import ctypes; [ctypes.CDLL(name) for name in ("libEGL.so.1", "libGLESv2.so.2")]' 2>/dev/null
}

if needs_libraries; then # mediapipe links them
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends libegl1 libgles2 </dev/null
    fi
    if needs_libraries; then
        echo "libEGL.so.1 and libGLESv2.so.2 are missing. Ask an administrator to install them," >&2
        echo "on Debian and Ubuntu: apt-get install libegl1 libgles2; on Fedora: dnf install libglvnd-egl libglvnd-gles" >&2
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
"$uv" sync --locked --quiet
