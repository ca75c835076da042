#!/usr/bin/env bash
# Installs koko-presence as a systemd service on this host, or upgrades it; `make install-systemd` calls it.
#     deploy/install.sh [install]          again for an upgrade; never touches the configuration and the secrets
#     deploy/install.sh uninstall          everything away but /etc/koko-presence; PURGE=1: that too
# DESTDIR=/folder    into a folder, as for a package; needs no root and starts nothing
# PYTHON=/usr/bin/python3    the interpreter, 3.11 or newer
# WHEEL=file.whl     a wheel (`make dist`) of this checkout's version instead of its source: then no compiler is needed
# PACKAGE=no         files only, no Python package
set -euo pipefail
umask 022
source=$(cd "$(dirname "$0")/.." && pwd)
root=${DESTDIR:-}
if [ -n "$root" ]; then root=$(realpath -m "$root"); fi
python=${PYTHON:-/usr/bin/python3}
home=/opt/koko-presence # the unit and the wrapper name it
etc=/etc/koko-presence
wrapper=/usr/local/bin/koko-presence

say() { printf 'install: %s\n' "$*"; }
stop() { printf 'install: %s\n' "$*" >&2; exit 1; }
put() { install -D -m "$1" "$2" "$root$3"; }
systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

check_host() {
    if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then stop "this needs root. Type:  sudo make install-systemd"; fi
    command -v "$python" >/dev/null || stop "$python is missing. Type:  apt-get install -y python3 python3-venv"
    python=$(command -v "$python")
    "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' || stop "$python is older than 3.11"
    if [ "${PACKAGE:-}" = no ]; then return; fi
    "$python" -c 'import venv, ensurepip' 2>/dev/null || stop "no venv. Type:  apt-get install -y python3-venv"
    # the unit has ProtectHome and a user of its own
    case $root:$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
        :/home/* | :/root/* | :/run/user/*) stop "$python lies in a home folder, where the service cannot read it" ;;
    esac
    if [ -n "${WHEEL:-}" ]; then
        [ -f "$WHEEL" ] || stop "WHEEL=$WHEEL is no file"
        return
    fi
    command -v "${CC:-cc}" >/dev/null || stop "no C compiler. Type:  apt-get install -y gcc libc6-dev  (or give WHEEL=)"
    "$python" -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        stop "Python.h is missing. Type:  apt-get install -y python3-dev  (or give WHEEL=)"
}

pip_of() { # environment, words
    local environment=$1; shift
    "$environment/bin/python" -m pip --disable-pip-version-check --no-input "$@"
}

# Every package comes with a hash from deploy/requirements*.txt (`make pins`); our own needs none, and brings nothing.
pip_installs() { # environment
    local environment=$1 what=${WHEEL:-}
    if [ -z "$what" ]; then # built from a copy, so that nothing of root's is left in the checkout
        mkdir "$work/source" "$work/wheel" &&
            (cd "$source" && tar -c --exclude='*.so' --exclude=__pycache__ \
                pyproject.toml setup.py README.md LICENSE koko_presence _fastpath) | tar -x -C "$work/source" &&
            "$python" -m venv "$work/build" &&
            pip_of "$work/build" install --require-hashes -r "$source/deploy/requirements-build.txt" &&
            pip_of "$work/build" wheel --no-deps --no-build-isolation -w "$work/wheel" "$work/source" || return
        what=$(echo "$work"/wheel/*.whl)
    fi
    pip_of "$environment" install --require-hashes -r "$source/deploy/requirements.txt" &&
        pip_of "$environment" install --no-deps --no-index "$what" &&
        pip_of "$environment" check
}

# A new environment beside the one in use; $home/venv, a link, points to it only when it works. The one before stays.
install_package() {
    local target before old
    target=releases/$(date -u +%Y%m%d%H%M%S)-$$
    # not local: the trap looks at them when this function is long over
    new=$root$home/$target
    work=$(mktemp -d)
    trap 'rm -rf "$work" "$new"' EXIT
    say "making $home/$target with $("$python" --version) and the pinned packages (a minute)"
    mkdir -p "$root$home/releases"
    "$python" -m venv "$new"
    if ! pip_installs "$new" >"$work/log" 2>&1; then
        tail -n 40 "$work/log" >&2
        stop "pip has failed; what was installed before is untouched"
    fi
    # the scripts are to start with the link's path: the same for every release, and without DESTDIR
    grep -rlIF --exclude-dir=__pycache__ "$new" "$new/bin" "$new/pyvenv.cfg" | while read -r file; do
        if [ ! -L "$file" ]; then sed -i "s#$new#$home/venv#g" "$file"; fi
    done
    "$new/bin/python" -I -m koko_presence version >"$work/log" 2>&1 || { cat "$work/log" >&2; stop "it does not run"; }
    before=$(readlink "$root$home/venv" || true)
    ln -s "$target" "$root$home/venv.next"
    mv -T "$root$home/venv.next" "$root$home/venv"
    trap 'rm -rf "$work"' EXIT
    for old in "$root$home"/releases/*; do
        case releases/${old##*/} in "$target" | "$before") ;; *) rm -rf "$old" ;; esac
    done
    say "$(head -n 1 "$work/log") is in $home/venv${before:+ (before: $before)}"
}

secret() { # a file that nobody else could read at any moment, once
    local file=$root$etc/$1
    if [ -s "$file" ]; then return; fi
    (umask 077 && "$python" -c 'import secrets; print(secrets.token_urlsafe(48))' >"$file.new" && mv "$file.new" "$file")
    say "made $etc/$1 ($2)"
}

install_files() {
    local folder
    put 644 "$source/deploy/koko-presence.service" /etc/systemd/system/koko-presence.service
    put 644 "$source/deploy/sysctl.d/90-koko-presence.conf" /etc/sysctl.d/90-koko-presence.conf
    rm -f "$root/etc/tmpfiles.d/koko-presence.conf" # of 0.1.0: it set modes back at every boot
    for folder in "$root$etc" "$root${wrapper%/*}"; do
        if [ ! -d "$folder" ]; then install -d -m 755 "$folder"; fi
    done
    if [ ! -e "$root$etc/koko-presence.toml" ]; then
        put 644 "$source/deploy/koko-presence.toml" "$etc/koko-presence.toml"
        say "made $etc/koko-presence.toml"
    fi
    secret secret "signs the tokens; your application needs the same"
    secret api_key "the server API's bearer key"
    # what an operator types: root gets the service's secrets and finds the running server
    cat >"$root$wrapper.new" <<WRAPPER
#!/bin/sh
if [ "\$(id -u)" = 0 ]; then
    export CREDENTIALS_DIRECTORY="\${CREDENTIALS_DIRECTORY:-$etc}"
    export RUNTIME_DIRECTORY="\${RUNTIME_DIRECTORY:-/run/koko-presence}"
fi
exec $home/venv/bin/koko-presence "\$@"
WRAPPER
    chmod 755 "$root$wrapper.new"
    mv "$root$wrapper.new" "$root$wrapper"
}

tell_system() {
    if [ -n "$root" ]; then return; fi
    if ! systemd_runs; then
        say "systemd does not run here: nothing was loaded"
        return
    fi
    systemctl daemon-reload
    sysctl -q -p /etc/sysctl.d/90-koko-presence.conf || say "some kernel settings do not hold here (a container?)"
}

tell_operator() {
    if systemd_runs && systemctl -q is-active koko-presence; then
        cat <<'NEXT'
Upgraded on the disk; the running server is still the old one. Next:
  koko-presence check-config --config /etc/koko-presence/koko-presence.toml
  systemctl restart koko-presence     # or new workers only: docs/operations.md, "Upgrade"
NEXT
        return
    fi
    cat <<'NEXT'
Next, as root:
  editor /etc/koko-presence/koko-presence.toml      # server.origins: the pages that may connect
  koko-presence check-config --config /etc/koko-presence/koko-presence.toml
  systemctl enable --now koko-presence
  curl -fsS http://127.0.0.1:9080/readyz
TLS in front: deploy/Caddyfile or deploy/nginx.conf. Everything else: docs/operations.md.
NEXT
}

uninstall() {
    if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then stop "this needs root. Type:  sudo make uninstall-systemd"; fi
    if systemd_runs; then systemctl disable --now koko-presence 2>/dev/null || true; fi
    rm -rf "$root$home" "$root/etc/systemd/system/koko-presence.service" "$root$wrapper" \
        "$root/etc/sysctl.d/90-koko-presence.conf"
    if [ -n "${PURGE:-}" ]; then rm -rf "$root$etc" "$root/etc/systemd/system/koko-presence.service.d"; fi
    if systemd_runs; then systemctl daemon-reload; fi
    say "removed${PURGE:+, configuration and secrets too}; kernel settings hold until the next boot"
}

case ${1:-install} in
    install)
        check_host
        if [ "${PACKAGE:-}" != no ]; then install_package; fi
        install_files
        tell_system
        tell_operator
        ;;
    uninstall) uninstall ;;
    *) stop "$1: use install or uninstall" ;;
esac
