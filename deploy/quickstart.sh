#!/usr/bin/env bash
# Extranet Monitor on one machine in a minute: installs what is missing from Debian, builds, starts VictoriaMetrics,
# Alertmanager, a collector and an agent on loopback, and shows what they measure: first values, the IPv6 level of this
# machine, the report files, and a security event. Everything lives in a throw-away folder and ends with Ctrl-C.
#
#   deploy/quickstart.sh          stay in the foreground until Ctrl-C
#   deploy/quickstart.sh --once   check that values and alerts arrive, then stop: exit 0, or what failed and exit 1
set -euo pipefail
cd "$(dirname "$0")/.."

# From the start of the collector until the first values show; what the product promises.
readonly VALUES_WITHIN=60
# From the new access point, or the new certificate, until its alert: three bad slots of 2 s, and a busy machine.
readonly ALERT_WITHIN=60
# From the start of a process until it answers.
readonly READY_WITHIN=30

once=
case "${1:-}" in
  '') ;;
  --once) once=yes ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] && exit 0; exit 64 ;;
esac

# --- what the machine needs ------------------------------------------------------------------------------------------

# shellcheck source=deploy/debian-packages.sh
. deploy/debian-packages.sh
export PATH="$PATH:$HOME/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin"
install_missing \
  cc:gcc \
  curl:curl \
  openssl:openssl \
  prometheus-alertmanager:prometheus-alertmanager \
  snmpd:snmpd \
  victoria-metrics:victoria-metrics

if [ -n "${EXTRANET_TEST_BINARIES:-}" ]; then
  binaries=$EXTRANET_TEST_BINARIES
else
  command -v cargo >/dev/null || { echo 'quickstart: Rust is missing: see https://rustup.rs' >&2; exit 1; }
  echo '== building (the first time takes some minutes)'
  # The development profile: it is built in half the time, and is the one that the tests use too.
  cargo build --locked --workspace --bins
  binaries=${CARGO_TARGET_DIR:-target}/debug
fi
binaries=$(cd "$binaries" && pwd)

# --- processes: each with its log, ended by its id ---------------------------------------------------------------------

state=$(mktemp -d "${TMPDIR:-/tmp}/extranet-quickstart.XXXXXXXX")
declare -A pid_of=()
order=()

stop_everything() {
  local name _
  # Agents before the collector, the collector before its engines.
  for ((i = ${#order[@]} - 1; i >= 0; i--)); do kill -TERM "${pid_of[${order[i]}]}" 2>/dev/null || true; done
  for name in "${order[@]}"; do
    for _ in {1..100}; do
      kill -0 "${pid_of[$name]}" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "${pid_of[$name]}" 2>/dev/null || true
    wait "${pid_of[$name]}" 2>/dev/null || true
  done
  order=()
}

finish() {
  local status=$?
  trap '' INT TERM
  trap - EXIT
  stop_everything
  if [ "$status" -eq 0 ]; then rm -rf "$state"; else echo "quickstart: logs are kept in $state" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 0' INT TERM

fail() {
  echo "quickstart: FAILED: $*" >&2
  exit 1
}

# start NAME COMMAND...
start() {
  local name=$1
  shift
  "$@" >"$state/$name.log" 2>&1 </dev/null &
  pid_of[$name]=$!
  order+=("$name")
}

# stop NAME: ends one process, which may be started again.
stop() {
  local name=$1 one rest=()
  kill -TERM "${pid_of[$name]}" 2>/dev/null || true
  wait "${pid_of[$name]}" 2>/dev/null || true
  unset "pid_of[$name]"
  for one in "${order[@]}"; do [ "$one" = "$name" ] || rest+=("$one"); done
  order=("${rest[@]}")
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; says what failed and shows the logs otherwise.
wait_for() {
  local patience=$1 what=$2 name
  shift 2
  local deadline=$((SECONDS + patience))
  until "$@" >"$state/last-answer" 2>&1; do
    for name in "${order[@]}"; do
      if ! kill -0 "${pid_of[$name]}" 2>/dev/null; then
        tail -n 20 "$state/$name.log" >&2
        fail "$name ended while waiting for: $what"
      fi
    done
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "last answer:" >&2
      tail -n 20 "$state/last-answer" >&2
      for name in collector agent; do
        [ -e "$state/$name.log" ] && { echo "--- last lines of $name" >&2; tail -n 20 "$state/$name.log" >&2; }
      done
      fail "$what: not within $patience s"
    fi
    sleep 0.2
  done
}

fetch() { curl --silent --show-error --fail --noproxy '*' --max-time 5 "$@"; }

# A port that nobody uses, in REPLY, below the range that the kernel hands out for outgoing connections.
taken=' '
free_port() {
  local port hex used
  used=$(awk '{ print $2 " " }' /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 2>/dev/null || true)
  while :; do
    port=$((20000 + RANDOM % 12000))
    printf -v hex ':%04X ' "$port"
    if [[ $taken != *" $port "* && $used != *"$hex"* ]]; then
      taken+="$port "
      REPLY=$port
      return
    fi
  done
}

free_port; victoria=$REPLY
free_port; alertmanager=$REPLY
free_port; collector=$REPLY
free_port; collector_self=$REPLY
free_port; agent_self=$REPLY
free_port; snmp=$REPLY
free_port; portal=$REPLY
free_port; nobody=$REPLY
community=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')

# --- a device, a server with a certificate, the engines -------------------------------------------------------------------------------------------

echo '== starting snmpd, VictoriaMetrics, Alertmanager'
(umask 077; cat >"$state/snmpd.conf" <<EOF
agentAddress udp:127.0.0.1:$snmp
rocommunity $community 127.0.0.1
sysName quickstart-router
sysLocation this machine
EOF
)
start snmpd env SNMP_PERSISTENT_DIR="$state/snmpd" snmpd -f -Lo -m '' -C -c "$state/snmpd.conf"

# Two certificates for one name: the second one is for the security event.
for number in 1 2; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=portal.demo/O=Demo $number" \
    -keyout "$state/portal-$number.key" -out "$state/portal-$number.pem" 2>"$state/openssl.log" || fail 'making a certificate'
done
# show_certificate NUMBER: the portal shows this one from now on.
show_certificate() {
  start portal openssl s_server -accept "127.0.0.1:$portal" -www -quiet -key "$state/portal-$1.key" -cert "$state/portal-$1.pem"
}
show_certificate 1

# What the collector and the agent say about themselves, for dashboards/pipeline.json.
cat >"$state/scrapes.yml" <<EOF
global:
  scrape_interval: 5s
scrape_configs:
  - job_name: extranet-collector
    static_configs: [{targets: ["127.0.0.1:$collector_self"]}]
  - job_name: extranet-agent
    static_configs: [{targets: ["127.0.0.1:$agent_self"]}]
EOF

# -search.latencyOffset: queries show what arrived a second ago, not 30 s ago.
start victoria-metrics victoria-metrics -storageDataPath="$state/victoria" -httpListenAddr="127.0.0.1:$victoria" \
  -retentionPeriod=13 -dedup.minScrapeInterval=1ms -search.latencyOffset=1s -promscrape.config="$state/scrapes.yml"

start alertmanager prometheus-alertmanager --config.file=deploy/examples/alertmanager.yml \
  --storage.path="$state/alertmanager" --web.listen-address="127.0.0.1:$alertmanager" --cluster.listen-address=

wait_for "$READY_WITHIN" 'VictoriaMetrics to answer' fetch "http://127.0.0.1:$victoria/health"
wait_for "$READY_WITHIN" 'Alertmanager to answer' fetch "http://127.0.0.1:$alertmanager/-/ready"

# --- the collector -----------------------------------------------------------------------------------------------------

echo '== starting the collector'
started=$SECONDS
cat >"$state/collector.toml" <<EOF
listen = "127.0.0.1:$collector"
state_dir = "$state/collector"
tick = "1s"

[state]
# Short, so that a first visitor sees an alert within seconds; the default is a minute.
slot = "2s"

[security]
# How long an event must be over before it is closed; the default is five minutes.
hold_down = "10s"

[alertmanager]
urls = ["http://127.0.0.1:$alertmanager"]

[[remote_write]]
name = "victoria"
url = "http://127.0.0.1:$victoria/api/v1/write"
flush = "1s"

[self]
listen = "127.0.0.1:$collector_self"
EOF
ours() { "$binaries/extranet-collector" "$@" --config "$state/collector.toml"; }
start collector "$binaries/extranet-collector" serve --config "$state/collector.toml"
wait_for "$READY_WITHIN" 'the collector to answer' ours status

cat >"$state/access-points.csv" <<EOF
ap_id,name,level,parent,medium,monitoring
demo,Demonstration 示范点,county,centre,fibre,agent
EOF
cat >"$state/targets.csv" <<EOF
ap_id,name,kind,address,tcp_port,host,path,tls,snmp_version,snmp_port,snmp_community
centre,loopback-v4,anchor,127.0.0.1,$victoria,,,,,,
centre,loopback-v6,anchor,::1,,,,,,,
demo,router,router,127.0.0.1,,,,,2c,$snmp,$community
demo,victoria,service,127.0.0.1,$victoria,,/health,,,,
demo,collector,service,127.0.0.1,$collector,enrol.extranet.internal,,yes,,,
demo,portal,service,127.0.0.1,$portal,portal.demo,,yes,,,
EOF
cat >"$state/plan.toml" <<EOF
[[plan]]
name = "quick start"
flush_interval = "1s"
[[plan.check]]
name = "anchor-icmp"
probe = "icmp"
target = "anchor"
packets = 5
packet_interval = "50ms"
interval = "1s"
[[plan.check]]
name = "anchor-tcp"
probe = "tcp"
target = "anchor"
interval = "1s"
[[plan.check]]
name = "router-snmp"
probe = "snmp"
target = "router"
interval = "5s"
[[plan.check]]
name = "service-http"
probe = "http"
target = "service"
contains = "OK"
interval = "2s"
# Nobody's authority has signed these certificates, so only what is shown is looked at, and whether it changes.
[[plan.check]]
name = "service-tls"
probe = "tls"
target = "service"
verify = false
interval = "2s"
[[plan.check]]
name = "ipv6"
probe = "ipv6"
target = "self"
families = [6]
interval = "5s"
timeout = "4s"
# A name that is looked up on this machine alone.
services = ["tcp://localhost:$victoria"]

[[inbound]]
name = "routers from outside"
media = ["fibre", "mobile", "satellite", "other"]
[[inbound.check]]
name = "inbound-icmp"
probe = "icmp"
packets = 5
packet_interval = "50ms"
interval = "1s"
[[inbound.check]]
name = "inbound-snmp"
probe = "snmp"
interval = "5s"

[[inbound]]
name = "a port from outside"
media = ["microwave"]
[[inbound.check]]
name = "inbound-tcp"
probe = "tcp"
interval = "1s"
EOF
ours import --access-points "$state/access-points.csv" --targets "$state/targets.csv" || fail 'the import'
ours plan apply "$state/plan.toml" || fail 'applying the plan'

# --- an agent, enrolled with a ticket --------------------------------------------------------------------------------

echo '== enrolling and starting an agent'
cat >"$state/agent.toml" <<EOF
collectors = ["127.0.0.1:$collector"]
state_dir = "$state/agent"

[uplink]
backoff_min = "200ms"
backoff_max = "2s"

[self]
listen = "127.0.0.1:$agent_self"
EOF
ours ticket new --ap demo --out "$state/ticket" || fail 'making a ticket'
"$binaries/extranet-agent" enrol --ticket-file "$state/ticket" --config "$state/agent.toml" || fail 'enrolment'
start agent "$binaries/extranet-agent" run --config "$state/agent.toml"

# --- first values ------------------------------------------------------------------------------------------------------

# The number of series that match a selector and have a value now.
arrived() {
  local answer
  answer=$(fetch --get --data-urlencode "query=count($1)" "http://127.0.0.1:$victoria/api/v1/query")
  grep -q '"value":\[' <<<"$answer" || { echo "no series of $1 yet: $answer"; return 1; }
}
all_arrived() {
  arrived 'probe_success{ap_id="demo",check="anchor-icmp",family="4"} == 1' &&
    arrived 'probe_icmp_duration_seconds{ap_id="demo",check="anchor-icmp",family="4"} > 0' &&
    arrived 'probe_icmp_duration_seconds{ap_id="demo",check="anchor-icmp",family="6"} > 0' &&
    arrived 'extranet_tcp_connect_seconds{ap_id="demo",check="anchor-tcp"} > 0' &&
    arrived 'sysUpTime{ap_id="demo",check="router-snmp"} > 0' &&
    arrived 'ifHCInOctets{ap_id="demo",check="router-snmp",ifName="lo"} > 0' &&
    arrived 'probe_http_status_code{ap_id="demo",check="service-http"} == 200' &&
    arrived 'probe_http_duration_seconds{ap_id="demo",check="service-http",phase="processing"} > 0' &&
    arrived 'probe_ssl_earliest_cert_expiry{ap_id="demo",check="service-tls"} > 0' &&
    arrived 'probe_ssl_last_chain_info{ap_id="demo",check="service-tls",subject!=""}' &&
    arrived "probe_ssl_last_chain_info{ap_id=\"demo\",instance=\"127.0.0.1:$portal\"}" &&
    arrived 'extranet_ipv6_level{ap_id="demo"} >= 0' &&
    arrived 'extranet_collector_session_open > 0' &&
    arrived 'extranet_agent_uplink_connected == 1'
}
echo "== waiting for the first values (at most $VALUES_WITHIN s)"
wait_for "$((VALUES_WITHIN - (SECONDS - started)))" 'values of every probe and of the programs themselves in VictoriaMetrics' all_arrived
echo "== all of them $((SECONDS - started)) s after the collector was started"
ours status || fail 'status'

# --- IPv6, the report, the dashboards ----------------------------------------------------------------------------------

level=$(ours status --ap demo | sed -n 's/^  IPv6: //p')
[ "$level" ] || fail 'the IPv6 level is not in the status'
echo "== 本机 IPv6 等级 IPv6 level of this machine: $level"

echo '== 覆盖报告（本月）coverage report of this month'
ours report build --from "$(date +%Y-%m-01)" --to "$(date -d "$(date +%Y-%m-01) +1 month" +%Y-%m-%d)" \
  --out "$state/report" || fail 'the report'

echo "== Grafana 仪表板 dashboards: $PWD/dashboards/province.json, access-point.json, pipeline.json (README.md)"

# --- a security event, harmless ----------------------------------------------------------------------------------------

echo '== 安全事件演示：本机 TLS 服务更换证书 a security event: the certificate of a local TLS server changes'
stop portal
show_certificate 2
# alerted NAME ACCESS-POINT
alerted() {
  local answer
  answer=$(fetch "http://127.0.0.1:$alertmanager/api/v2/alerts?active=true")
  echo "$answer"
  grep -q "\"alertname\":\"$1\"" <<<"$answer" && grep -q "\"ap_id\":\"$2\"" <<<"$answer"
}
changed=$SECONDS
wait_for "$ALERT_WITHIN" 'the alert TlsCertificate in Alertmanager' alerted TlsCertificate demo
echo "== 告警已送达 the alert was in Alertmanager $((SECONDS - changed)) s later, with its evidence 证据:"
ours security list --open || fail 'listing security events'

# --- one run, for checks -----------------------------------------------------------------------------------------------

if [ "$once" ]; then
  echo '== an access point whose port is closed must raise an alert, seen from the centre and from its parent'
  cat >"$state/lost.csv" <<EOF
ap_id,name,level,parent,medium,monitoring
lost,Lost 失联点,township,demo,microwave,remote
EOF
  cat >"$state/lost-targets.csv" <<EOF
ap_id,name,kind,address,tcp_port
lost,router,router,127.0.0.1,$nobody
EOF
  ours import --access-points "$state/lost.csv" --targets "$state/lost-targets.csv" || fail 'the import'
  wait_for "$ALERT_WITHIN" 'the alert AccessPointDown in Alertmanager' alerted AccessPointDown lost
  ours status || fail 'status'
  echo '== quick start: values in VictoriaMetrics, report built, alerts in Alertmanager: all is well'
  exit 0
fi

# --- what next ---------------------------------------------------------------------------------------------------------

cat <<EOF

Open in a browser:
  http://127.0.0.1:$victoria/vmui           what was measured: try probe_success or ifHCInOctets
  http://127.0.0.1:$alertmanager/           alerts
  http://127.0.0.1:$collector_self/metrics  the collector about itself
  http://127.0.0.1:$agent_self/metrics  the agent about itself

In a Grafana of yours: a Prometheus data source with the URL http://127.0.0.1:$victoria, then import
  $PWD/dashboards/province.json, access-point.json and pipeline.json (see README.md there)

Next, in another terminal:
  cd $PWD
  export PATH="$binaries:\$PATH" CONFIG=$state/collector.toml

  extranet-collector status --config \$CONFIG
  # Watch one more router, without an agent, from the collector: its values show within 60 s.
  extranet-collector ap add my-router --address 192.0.2.1 --snmp v2c --community-file FILE --config \$CONFIG
  # IPv6 readiness of this machine, check by check.
  extranet-agent ipv6 check
  # The certificate above was changed on purpose: accept it, and its alert ends.
  extranet-collector security close 1 --reason "demonstration" --config \$CONFIG
  # A ticket for an agent of your own.
  extranet-collector ticket new --ap demo --config \$CONFIG

Report 报告: $state/report
Logs and state: $state (removed at the end)
Ctrl-C stops everything.
EOF

# Until Ctrl-C, or until something ends that should not.
wait -n "${pid_of[@]}" || true
for name in "${order[@]}"; do
  if ! kill -0 "${pid_of[$name]}" 2>/dev/null; then
    tail -n 20 "$state/$name.log" >&2
    fail "$name ended"
  fi
done
