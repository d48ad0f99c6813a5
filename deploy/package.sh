#!/usr/bin/env bash
# Builds extranet-agent_VERSION_ARCH.deb and extranet-collector_VERSION_ARCH.deb. Needs no root and installs nothing.
#
#   deploy/package.sh [FOLDER]                  into FOLDER, target/packages when not given; prints their paths
#   PROFILE=release deploy/package.sh           another cargo profile than "dist", which is the smallest
#   EXTRANET_TEST_BINARIES=target/debug deploy/package.sh   packs binaries that are there, without building
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../target/packages}")
cd "$(dirname "$0")/.."
mkdir -p "$folder"

profile=${PROFILE:-dist}
if [ -n "${EXTRANET_TEST_BINARIES:-}" ]; then
  binaries=$EXTRANET_TEST_BINARIES
else
  cargo build --locked --profile "$profile" -p extranet-agent -p extranet-collector --bins >&2
  case $profile in dev | test) built=debug ;; bench) built=release ;; *) built=$profile ;; esac
  binaries=${CARGO_TARGET_DIR:-target}/$built
fi

version=$(sed -n '/^\[workspace\.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)
# 0.2.0-rc.1 comes before 0.2.0: "~" says so to dpkg.
version=${version/-/\~}
architecture=$(dpkg --print-architecture)
# The same sources give the same package, wherever and whenever they are packed.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The oldest C library that has every symbol a binary asks for, as 2.34.
oldest_libc() {
  objdump -T "$1" | sed -n 's/.*GLIBC_\([0-9][0-9.]*\).*/\1/p' | sort -V | tail -n 1
}

# pack PART: everything about a package but its binary lies in deploy/package/PART.
pack() {
  local part=$1 name=extranet-$1 data=deploy/package/$1 root=$work/$1 file
  install -D -m 755 "$binaries/$name" "$root/usr/bin/$name"
  install -D -m 644 "deploy/examples/$part.toml" "$root/etc/extranet/$part.toml"
  install -D -m 644 "$data/$name.service" "$root/lib/systemd/system/$name.service"
  for file in "$data"/*.socket; do
    [ ! -e "$file" ] || install -D -m 644 -t "$root/lib/systemd/system" "$file"
  done
  install -D -m 644 "$data/sysusers.conf" "$root/usr/lib/sysusers.d/$name.conf"
  # The agent's sensor: a binary and a unit more, which stays disabled.
  if [ "$part" = agent ]; then
    install -D -m 755 "$binaries/extranet-sensor" "$root/usr/bin/extranet-sensor"
    install -D -m 644 "$data/extranet-sensor.service" "$root/lib/systemd/system/extranet-sensor.service"
  fi
  install -D -m 644 "$data/$name.8" "$root/usr/share/man/man8/$name.8"
  install -D -m 644 CHANGELOG.md "$root/usr/share/doc/$name/changelog"
  gzip -9n "$root/usr/share/man/man8/$name.8" "$root/usr/share/doc/$name/changelog"
  install -D -m 644 deploy/package/copyright "$root/usr/share/doc/$name/copyright"
  for file in $(cat "$data/examples"); do
    install -D -m 644 "deploy/examples/$file" "$root/usr/share/doc/$name/examples/$file"
  done

  mkdir "$root/DEBIAN"
  echo "/etc/extranet/$part.toml" >"$root/DEBIAN/conffiles"
  for file in postinst prerm postrm; do
    cat deploy/package/script-head.sh "$data/$file" >"$root/DEBIAN/$file"
    sed -i "s/@NAME@/$name/" "$root/DEBIAN/$file"
    chmod 755 "$root/DEBIAN/$file"
  done
  sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
    -e "s/@LIBC@/$(oldest_libc "$root/usr/bin/$name")/" \
    -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f 1)/" \
    "$data/control" >"$root/DEBIAN/control"
  (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z |
    xargs -0 md5sum) >"$work/md5sums"
  mv "$work/md5sums" "$root/DEBIAN/md5sums"

  # Binaries with debugging information are packed for tests, and quickly.
  local compression=-Zxz
  [ -z "${EXTRANET_TEST_BINARIES:-}" ] || compression=-Znone
  file=$folder/${name}_${version}_$architecture.deb
  dpkg-deb "$compression" --root-owner-group --build "$root" "$file" >&2
  echo "$file"
}

umask 022
pack agent
pack collector
