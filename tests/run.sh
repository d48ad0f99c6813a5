#!/usr/bin/env bash
# Installs what the tests need and passes them all: format, lints, documentation, every test. Run it as root: the
# laboratory makes network namespaces, a small tmpfs and a container with a systemd of its own. The last line says how many tests passed.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
  echo 'tests/run.sh: run me as root (network namespaces, nft, tmpfs, containers)' >&2
  exit 1
fi

# shellcheck source=deploy/debian-packages.sh
. deploy/debian-packages.sh
install_missing \
  cc:gcc \
  chronyd:chrony \
  curl:curl \
  debootstrap:debootstrap \
  dnsmasq:dnsmasq-base \
  ip:iproute2 \
  mtr:mtr-tiny \
  nft:nftables \
  openssl:openssl \
  ping:iputils-ping \
  prometheus-alertmanager:prometheus-alertmanager \
  prometheus:prometheus \
  radvd:radvd \
  rsyslogd:rsyslog \
  setpriv:util-linux \
  snmpd:snmpd \
  snmpget:snmp \
  systemd-nspawn:systemd-container \
  victoria-metrics:victoria-metrics
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# A whole run never profits from incremental files, and they double the size of the target folder.
export CARGO_INCREMENTAL=0
# The last lines are read below.
export CARGO_TERM_COLOR=never

step() { printf '\n== %s\n' "$*"; "$@"; }

step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets -- -D warnings
# Links to private items work, because private items are documented too.
RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' step cargo doc --locked --workspace --no-deps --document-private-items
# The binaries that the scenarios start, with the features of the test build, so that nothing is compiled twice.
step cargo build --locked --workspace --bins --tests
EXTRANET_TEST_BINARIES=$(cd "${CARGO_TARGET_DIR:-target}/debug" && pwd)
export EXTRANET_TEST_BINARIES
step cargo test --locked --workspace --doc --quiet

log=${CARGO_TARGET_DIR:-target}/tests.log
if cargo nextest --version >/dev/null 2>&1; then
  step cargo nextest run --locked --workspace --status-level slow --final-status-level slow --no-fail-fast 2>&1 | tee "$log"
  # "Summary [ 61.2s] 214 tests run: 214 passed (3 slow), 0 skipped"
  passed=$(sed -n 's/.*tests\{0,1\} run: \([0-9]*\) passed.*/\1/p' "$log")
else
  step cargo test --locked --workspace --lib --bins --tests --no-fail-fast 2>&1 | tee "$log"
  passed=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$log" | paste -sd+ | sed 's/^$/0/')
  passed=$((passed))
fi
[ "${passed:-0}" -gt 0 ] || { echo 'the runner reported no test' >&2; exit 1; }
echo "$passed passed"
