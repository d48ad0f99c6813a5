//! The dashboards of `dashboards/`: Grafana can load them, a reader understands them, and every query of every panel
//! gets rows with the labels that its legend names, from engines that a collector and an agent have filled.

#[path = "dashboards/lint.rs"]
mod lint;
#[path = "dashboards/queries.rs"]
mod queries;

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use extranet_agent::self_stats as agent_stats;
use extranet_collector::self_stats as collector_stats;
use extranet_tests::clock::wait_until;
use extranet_tests::engine::snmpd::COMMUNITY;
use extranet_tests::engine::{Prometheus, Snmpd, free_tcp_port};
use extranet_tests::place::Place;
use extranet_tests::sandbox::{Sandbox, Settings};
use extranet_tests::tls_server::{Authority, TlsServer};
use serde_json::{Value, json};

use crate::queries::Query;

/// A dashboard as its file has it.
#[derive(Debug, Clone)]
pub(crate) struct Dashboard {
    pub(crate) file: String,
    pub(crate) json: Value,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn dashboards() -> Vec<Dashboard> {
    let files = std::fs::read_dir(root().join("dashboards")).expect("the folder is there");
    let mut found: Vec<Dashboard> = files
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("the file can be read");
            Dashboard {
                file: path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                json: serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            }
        })
        .collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

#[test]
fn every_dashboard_keeps_every_rule() {
    let dashboards = dashboards();
    let files: Vec<&str> = dashboards.iter().map(|one| one.file.as_str()).collect();
    assert_eq!(
        files,
        ["access-point.json", "pipeline.json", "province.json"]
    );
    let found = lint::findings(&dashboards);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A fault in the province's dashboard: rule, place, what is put there, part of the finding.
type Fault = (&'static str, &'static str, Value, &'static str);

#[expect(clippy::too_many_lines, reason = "a table")]
fn faults() -> Vec<Fault> {
    vec![
        (
            "identity",
            "/uid",
            json!("extranet-pipeline"),
            "the uid of another",
        ),
        ("identity", "/schemaVersion", json!(16), "schemaVersion"),
        ("identity", "/editable", json!(true), "editable"),
        ("identity", "/id", json!(7), "one database"),
        (
            "data source",
            "/templating/list/1/type",
            json!("datasource"),
            "data source variables",
        ),
        (
            "data source",
            "/templating/list/1/datasource/uid",
            json!("P1"),
            "not ${datasource}",
        ),
        (
            "data source",
            "/panels/1/datasource/uid",
            json!("P1"),
            "panel 2",
        ),
        (
            "data source",
            "/panels/1/targets/0/datasource/uid",
            json!("P1"),
            "panel 2",
        ),
        ("ids", "/panels/2/id", json!(2), "no id of its own"),
        ("grid", "/panels/2/gridPos/x", json!(3), "overlaps panel 2"),
        ("grid", "/panels/2/gridPos/w", json!(24), "outside the grid"),
        ("words", "/panels/1/title", json!("Up"), "no title"),
        (
            "words",
            "/panels/1/description",
            json!(""),
            "no description",
        ),
        ("words", "/title", json!("全省"), "no title"),
        ("words", "/templating/list/1/label", json!(""), "no label"),
        (
            "units",
            "/panels/1/fieldConfig/defaults/unit",
            json!("seconds"),
            "unknown unit",
        ),
        (
            "units",
            "/panels/1/fieldConfig/defaults/unit",
            Value::Null,
            "neither unit",
        ),
        (
            "thresholds",
            "/panels/1/fieldConfig/defaults/thresholds",
            Value::Null,
            "no thresholds",
        ),
        (
            "thresholds",
            "/panels/2/fieldConfig/defaults/thresholds/steps/1/value",
            Value::Null,
            "do not grow",
        ),
        (
            "windows",
            "/panels/1/targets/0/expr",
            json!("rate(extranet_x_total[5m])"),
            "rate([5m]",
        ),
        (
            "windows",
            "/panels/1/targets/0/expr",
            json!("increase(extranet_x_total[1h])"),
            "increase([1h]",
        ),
        ("targets", "/panels/1/targets", json!([]), "asks nothing"),
        (
            "targets",
            "/panels/1/targets/0/range",
            json!(true),
            "do not suit stat",
        ),
        (
            "targets",
            "/panels/1/targets/0/format",
            json!("table"),
            "format",
        ),
        (
            "targets",
            "/panels/8/targets/0/legendFormat",
            json!(""),
            "no legend",
        ),
        (
            "variables",
            "/panels/1/targets/0/expr",
            json!("up{job=\"$job\"}"),
            "job",
        ),
        (
            "variables",
            "/templating/list/1/refresh",
            json!(1),
            "grows stale",
        ),
        (
            "links",
            "/links/0/url",
            json!("/d/extranet-nowhere"),
            "leads nowhere",
        ),
        (
            "links",
            "/links/0/url",
            json!("/d/extranet-access-point?var-site=1"),
            "hands over site",
        ),
        ("links", "/links/0/tags/0", json!("other"), "tag other"),
        (
            "columns",
            "/panels/14/fieldConfig/overrides/0/matcher/options",
            json!("id"),
            "no column",
        ),
        (
            "keys",
            "/panels/1/type",
            json!("graph"),
            "unknown type graph",
        ),
        (
            "keys",
            "/panels/1/options/colourMode",
            json!("value"),
            "colourMode",
        ),
        (
            "keys",
            "/panels/8/fieldConfig/defaults/custom/lineWith",
            json!(1),
            "lineWith",
        ),
        (
            "keys",
            "/panels/8/fieldConfig/overrides/0/properties/0/id",
            json!("displayname"),
            "displayname",
        ),
        ("keys", "/panel", json!([]), "unknown key panel"),
        (
            "external",
            "/description",
            json!("图 a https://example.org/x.png"),
            "outside",
        ),
    ]
}

/// Puts a value at a JSON pointer, where nothing may be yet.
fn put(json: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match json.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key.to_owned(), value);
        }
        Some(Value::Array(values)) => {
            let at: usize = key.parse().expect("an index");
            values[at] = value;
        }
        other => panic!("{pointer}: {other:?}"),
    }
}

#[test]
fn every_rule_finds_its_fault() {
    let mut rules: BTreeSet<&str> = lint::RULES.iter().map(|(name, _)| *name).collect();
    for (rule, pointer, value, expected) in faults() {
        let mut dashboards = dashboards();
        let province = dashboards.last_mut().unwrap();
        put(&mut province.json, pointer, value);
        let found = lint::findings(&dashboards);
        let begin = format!("{rule}: ");
        assert!(
            found
                .iter()
                .any(|finding| finding.starts_with(&begin) && finding.contains(expected)),
            "{rule} {pointer}: {found:?}"
        );
        rules.remove(rule);
    }
    assert!(rules.is_empty(), "no fault for {rules:?}");
}

/// Codes and names as the panels have them, and as the table of divisions has them.
#[test]
fn prefectures_and_counties_have_the_names_of_the_table() {
    let table = std::fs::read_to_string(root().join("collector/data/divisions-54.csv")).unwrap();
    let expected: BTreeMap<String, String> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let digits = match fields[4] {
                "prefecture" => 4,
                "county" => 6,
                _ => return None,
            };
            let code = fields[0].chars().take(digits).collect();
            Some((
                code,
                format!("{} {}", fields[1], fields[2]).trim().to_owned(),
            ))
        })
        .collect();
    let dashboards = dashboards();
    let shown: BTreeMap<String, String> = lint::list(&dashboards[2].json, "panels")
        .iter()
        .flat_map(|panel| lint::list(&panel["fieldConfig"], "overrides"))
        .filter(|one| lint::text(&one["matcher"], "options").starts_with("54"))
        .map(|one| {
            let name = lint::text(&one["properties"][0], "value");
            (
                lint::text(&one["matcher"], "options").to_owned(),
                name.to_owned(),
            )
        })
        .collect();
    assert_eq!(shown, expected);
    assert_eq!(shown.len(), 7 + 74);
}

/// Grafana is told of the folder that the dashboards are in, and of a data source that they can use.
#[test]
fn provisioning_names_this_folder_and_a_prometheus_source() {
    let folder = root().join("dashboards/provisioning");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let provider = read("dashboards/extranet.yml");
    assert!(provider.contains("path: /usr/share/extranet/dashboards"));
    assert!(provider.contains("allowUiUpdates: false"));
    let readme = std::fs::read_to_string(root().join("dashboards/README.md")).unwrap();
    assert!(readme.contains("/usr/share/extranet/dashboards"));
    for Dashboard { file, json } in dashboards() {
        assert!(readme.contains(&file), "{file}");
        assert_eq!(
            lint::list(&json["templating"], "list")[0]["query"],
            "prometheus"
        );
    }
    assert!(read("datasources/extranet.yml").contains("type: prometheus"));
}

/// Everything that panels ask for once.
const PLAN: &str = r#"
[[plan]]
name = "everywhere"
flush_interval = "500ms"
daily_budget = "1GiB"
[[plan.check]]
name = "traffic"
probe = "traffic"
target = "self"
families = [4]
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "anchor-icmp"
probe = "icmp"
target = "anchor"
packets = 3
packet_interval = "20ms"
interval = "500ms"
timeout = "400ms"
[[plan.check]]
name = "anchor-tcp"
probe = "tcp"
target = "anchor"
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "service-tcp"
probe = "tcp"
target = "service"
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "service-http"
probe = "http"
target = "service"
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "service-tls"
probe = "tls"
target = "service"
verify = false
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "resolver-dns"
probe = "dns"
target = "resolver"
port = DNS_PORT
query = "nowhere.extranet.internal"
rcode = 3
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "router-snmp"
probe = "snmp"
target = "router"
interval = "1s"
timeout = "900ms"
[[plan.check]]
name = "ipv6"
probe = "ipv6"
target = "self"
families = [6]
interval = "5s"
timeout = "4s"
# A name that is looked up on this machine alone.
services = ["tcp://localhost:WEB_PORT"]

[[inbound]]
name = "from outside"
media = ["fibre"]
from = ["centre"]
[[inbound.check]]
name = "inbound-icmp"
probe = "icmp"
packets = 3
packet_interval = "20ms"
interval = "500ms"
timeout = "400ms"
[[inbound.check]]
name = "inbound-tcp"
probe = "tcp"
interval = "1s"
timeout = "900ms"

[[inbound]]
name = "a port from outside"
media = ["microwave"]
[[inbound.check]]
name = "inbound-tcp"
probe = "tcp"
interval = "100ms"
timeout = "90ms"
"#;

const ACCESS_POINTS: &str = "ap_id,name,level,parent,medium,monitoring,division_code\n\
    site,林周县,county,centre,fibre,agent,540121\n\
    lost,阿朗乡,township,site,microwave,remote,540121201\n";

/// An address that the kernel refuses to connect to without saying anything about it: it is on every link.
const ON_WHICH_LINK: &str = "fe80::1";

/// Labels that need not be there: no interface of the test's machine has an alias.
const OPTIONAL: [&str; 1] = ["ifAlias"];

/// Panels that show a zero in the test: no access point of it is in these states, no certificate so near its end.
const NOTHING_OF_IT: [&str; 3] = ["未知 Unknown", "未启用 Not in service", "30 天内到期证书"];

/// Longest until every panel has rows: builds without optimisation on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A name server that knows no name; it ends with the test. Its port.
fn name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = socket.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        let mut packet = [0_u8; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            // The query with "answer, recursion available, no such name".
            packet[2] |= 0x80;
            packet[3] = 0x83;
            if socket.send_to(&packet[..length], from).is_err() {
                return;
            }
        }
    });
    port
}

/// Metrics about what must not happen, which the programs show once it has: made with the programs' own code.
fn rare_metrics() -> String {
    let ours = collector_stats::Stats::new();
    for counters in [
        &ours.listen_handshakes,
        &ours.listen_dropped,
        &ours.session_closed,
        &ours.session_skipped,
        &ours.enrol_refused,
        &ours.export_dropped,
    ] {
        collector_stats::count(counters, "lab");
    }
    drop(
        ours.export_retries
            .get_or_create(&[("target", "lab".to_owned())]),
    );
    let agents = agent_stats::Stats::new();
    for counters in [
        &agents.spool_dropped,
        &agents.spool_errors,
        &agents.schedule_skipped,
        &agents.uplink_closed,
    ] {
        agent_stats::count(counters, "lab", 1);
    }
    ours.page() + &agents.render()
}

/// What is wrong with the answer to a query.
fn judged<'a>(query: &Query, rows: impl Iterator<Item = BTreeSet<&'a str>>) -> Result<(), String> {
    let labels: Vec<BTreeSet<&str>> = rows.collect();
    if labels.is_empty() {
        return Err("no rows".to_owned());
    }
    let all: BTreeSet<&str> = labels.into_iter().flatten().collect();
    let missing: Vec<&String> = query
        .labels
        .iter()
        .filter(|name| !all.contains(name.as_str()) && !OPTIONAL.contains(&name.as_str()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("rows have {all:?} but not {missing:?}"))
    }
}

fn ask_victoria(sandbox: &Sandbox, rare: &str, query: &Query) -> Result<(), String> {
    let mut all_there = true;
    for metric in queries::metrics(&query.promql) {
        let is_there = !sandbox
            .victoria
            .query(&format!("count({metric})"))?
            .is_empty();
        all_there &= is_there;
        if !is_there && !rare.contains(&format!("\n{metric}{{")) {
            return Err(format!("there is no metric {metric}"));
        }
    }
    // What shows a zero for nothing would show it for a misspelt label too.
    let bare = queries::without_fallback(&query.promql);
    let quiet = NOTHING_OF_IT.iter().any(|title| query.at.contains(title));
    if all_there && !quiet && sandbox.victoria.query(&bare)?.is_empty() {
        return Err(format!("no rows of {bare}"));
    }
    let rows = sandbox.victoria.query(&query.promql)?;
    judged(
        query,
        rows.iter()
            .map(|row| row.labels.keys().map(String::as_str).collect()),
    )
}

fn ask_prometheus(prometheus: &Prometheus, query: &Query) -> Result<(), String> {
    let rows = prometheus.query(&query.promql)?;
    if query.file == "pipeline.json" {
        // It scrapes nothing; that it understands the query is all it can tell.
        return Ok(());
    }
    let labels = rows.iter().map(|row| {
        let metric = row["metric"].as_object();
        metric
            .into_iter()
            .flat_map(|labels| labels.keys())
            .map(String::as_str)
            .collect()
    });
    judged(query, labels)
}

/// Waits until every query has passed once.
fn wait_answered(what: &str, queries: Vec<Query>, ask: impl Fn(&Query) -> Result<(), String>) {
    let mut open = queries;
    wait_until(what, PATIENCE, || {
        let mut why = Vec::new();
        open.retain(|query| match ask(query) {
            Ok(()) => false,
            Err(error) => {
                why.push(format!("{}: {error}\n  {}", query.at, query.promql));
                true
            }
        });
        if open.is_empty() {
            Ok(())
        } else {
            Err(why.join("\n"))
        }
    });
}

#[test]
fn every_query_of_every_panel_returns_rows_and_the_labels_of_its_legend() {
    let folder = tempfile::tempdir().unwrap();
    let snmpd = Snmpd::start(&Place::Host, folder.path());
    let prometheus = Prometheus::start(&Place::Host, folder.path());
    let mut sandbox = Sandbox::start(Settings {
        extra: format!(
            "[[remote_write]]\nname = \"prometheus\"\nurl = \"{}\"\nflush = \"500ms\"",
            prometheus.write_url()
        ),
        ..Settings::default()
    });
    let victoria = sandbox.victoria.url();
    let web = victoria.rsplit_once(':').unwrap().1.to_owned();
    let uplink = sandbox.address();
    let closed = free_tcp_port(&Place::Host);
    let (snmp, tls) = (snmpd.port(), uplink.port());
    // A security event: this certificate ends in five days.
    let ends_soon = Authority::new("lab").issue("portal.lab", "portal.lab", 5);
    let server = TlsServer::start(&Place::Host, ends_soon);
    let portal = server.port();
    sandbox.import(
        ACCESS_POINTS,
        &format!(
            "ap_id,name,kind,address,tcp_port,host,path,tls,snmp_version,snmp_port,snmp_community\n\
             centre,core,anchor,127.0.0.1,{web},,,,,,\n\
             centre,ns,resolver,127.0.0.1,,,,,,,\n\
             site,ce,router,127.0.0.1,{web},,,,2c,{snmp},{COMMUNITY}\n\
             site,web,service,127.0.0.1,{web},,/health,,,,\n\
             site,collector,service,127.0.0.1,{tls},enrol.extranet.internal,,yes,,,\n\
             site,portal,service,127.0.0.1,{portal},portal.lab,,yes,,,\n\
             site,closed,service,127.0.0.2,{closed},,,,,,\n\
             site,link,service,{ON_WHICH_LINK},{closed},,,,,,\n\
             lost,ce,router,127.0.0.1,{closed},,,,,,\n"
        ),
    );
    let plan = PLAN.replace("DNS_PORT", &name_server().to_string());
    sandbox.apply_plan(&plan.replace("WEB_PORT", &web));
    let mut agent = sandbox.agent("site", &Place::Host, uplink, "");
    let jobs = [
        ("extranet-collector", sandbox.statistics_address()),
        ("extranet-agent", agent.statistics_address()),
    ];
    sandbox.victoria.scrape(&jobs);

    let dashboards = dashboards();
    let asked = queries::all(&dashboards);
    assert!(asked.len() > 80, "{} queries", asked.len());
    let rare = rare_metrics();
    wait_answered(
        "VictoriaMetrics to answer every query",
        asked.clone(),
        |query| ask_victoria(&sandbox, &rare, query),
    );
    wait_answered("Prometheus to answer every query", asked, |query| {
        ask_prometheus(&prometheus, query)
    });
    agent.stop();
    sandbox.must_not_have_panicked();
}

#[test]
fn an_answer_without_rows_or_without_a_label_of_the_legend_is_a_fault() {
    let query = Query {
        at: String::new(),
        file: String::new(),
        promql: "sum by (reason) (extranet_x) / on (ap_id) ifHCInOctets{a=\"probe_y\"}".to_owned(),
        labels: BTreeSet::from(["reason".to_owned()]),
    };
    assert_eq!(
        queries::metrics(&query.promql),
        BTreeSet::from(["extranet_x", "ifHCInOctets"])
    );
    assert_eq!(
        queries::without_fallback(
            "a + (b or vector(0)) or label_replace(vector(0), \"x\", \"none\", \"\", \"\")"
        ),
        "a + (b)"
    );
    assert!(
        judged(&query, std::iter::empty())
            .unwrap_err()
            .contains("no rows")
    );
    assert!(
        judged(&query, std::iter::once(BTreeSet::from(["ap_id"])))
            .unwrap_err()
            .contains("reason")
    );
    judged(&query, std::iter::once(BTreeSet::from(["reason"]))).unwrap();
}
