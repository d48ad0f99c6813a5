# Sourced by deploy/quickstart.sh and tests/run.sh: installs what is missing from Debian without starting any service.
# shellcheck shell=bash

# install_missing COMMAND:PACKAGE...
# Installs the packages whose command is not there. A service that was running before goes on running; one that comes
# with a new package is neither started now nor at the next boot.
install_missing() {
  local pair package packages=()
  for pair in "$@"; do
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
  done
  [ "${#packages[@]}" -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "missing: ${packages[*]} (this script installs packages on Debian only)" >&2
    return 1
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "missing: ${packages[*]}; as root: apt-get install --no-install-recommends ${packages[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "== installing from Debian: ${packages[*]}"
  "${as_root[@]}" bash -euo pipefail -c "$(declare -f _install_without_starting); _install_without_starting \"\$@\"" \
    install_missing "${packages[@]}"
}

# As root. /usr/sbin/policy-rc.d is how Debian is told not to start services (invoke-rc.d(8)); whatever stood there
# before is put back, also after an interrupted run.
_install_without_starting() {
  # Not local: the trap runs after the function has returned.
  policy=/usr/sbin/policy-rc.d saved=/usr/sbin/policy-rc.d.before-extranet policy_is_ours=
  _put_policy_back() {
    if [ -e "$saved" ]; then mv -f "$saved" "$policy"; elif [ "$policy_is_ours" ]; then rm -f "$policy"; fi
  }
  _put_policy_back
  trap _put_policy_back EXIT
  if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
  policy_is_ours=1
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"

  export DEBIAN_FRONTEND=noninteractive
  local quiet=(-qq -o Dpkg::Use-Pty=0) package unit
  apt-get "${quiet[@]}" update
  apt-get "${quiet[@]}" install --yes --no-install-recommends "$@"
  for package in "$@"; do
    for unit in $(dpkg -L "$package" | sed -n 's#.*/lib/systemd/system/\([^/@]*\.\(service\|timer\|socket\)\)$#\1#p'); do
      DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$unit" >/dev/null
    done
  done
}
