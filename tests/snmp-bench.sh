#!/bin/bash
# What polling costs beside its peers: a device with 200 interfaces and a fleet of 1,000, in a network namespace.
# Needs root, snmpd, snmp, prometheus-snmp-exporter (optional) and a release build: cargo build --release --workspace
set -euo pipefail
cd "$(dirname "$0")/.."
bench=${CARGO_TARGET_DIR:-target}/release/snmp-bench
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

if [ -z "${SNMP_BENCH_INSIDE:-}" ]; then
  SNMP_BENCH_INSIDE=1 exec unshare --net "$0" "$@"
fi
ip link set lo up
for i in $(seq 1 100); do ip link add "a$i" type veth peer name "b$i"; done
cat >"$work/snmpd.conf" <<EOF
rocommunity public 127.0.0.0/8
EOF
SNMP_PERSISTENT_DIR=$work/p /usr/sbin/snmpd -f -Lo -C -c "$work/snmpd.conf" udp:0.0.0.0:1161 >/dev/null 2>&1 &
sleep 2

echo "== 200 ports: ours"
"$bench" walk 127.0.0.1:1161 50
echo "== 200 ports: snmpbulkwalk of ifTable and ifXTable, 20 times"
time (for _ in $(seq 20); do
  snmpbulkwalk -v2c -c public -Cr25 -On 127.0.0.1:1161 1.3.6.1.2.1.2.2 >"$work/out"
  snmpbulkwalk -v2c -c public -Cr25 -On 127.0.0.1:1161 1.3.6.1.2.1.31.1.1 >>"$work/out"
done)
wc -l <"$work/out"
if exporter=$(command -v prometheus-snmp-exporter); then
  echo "== 200 ports: snmp_exporter, 20 scrapes (its own CPU below)"
  "$exporter" --config.file=/etc/prometheus/snmp.yml --web.listen-address=127.0.0.1:9116 >/dev/null 2>&1 &
  peer=$!
  sleep 2
  time (for _ in $(seq 20); do
    curl -s "http://127.0.0.1:9116/snmp?target=127.0.0.1:1161&module=if_mib" >"$work/out"
  done)
  grep -vc '^#' "$work/out"
  cut -d' ' -f14,15 "/proc/$peer/stat"
fi
echo "== fleet: ours"
for i in $(seq 1 100); do ip link del "a$i"; done
"$bench" fleet 1161 1000 180
