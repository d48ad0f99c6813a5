//! Names and services over IPv6 (checks D1, D3, E1, E3).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use extranet_proto::assignment::{
    DnsProbe, DnsTransport, DnsType, HttpProbe, Ipv6Probe, Ipv6Service, Probe,
};
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use tokio::time::timeout_at;

use super::report::Report;
use super::run::{Surroundings, connect};
use super::score::Verdict;

/// V6-D1: what an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Home page with everything before it: names, connection, TLS.
const PAGE_TIME: Duration = Duration::from_secs(10);
/// Response codes that a working name server gives (RFC 1035 section 4.1.1): no error, no such name.
const RCODES_OF_ANSWERS: [u64; 2] = [0, 3];
/// Ports of a service that has a home page, where TLS does not say so.
const WEB_PORTS: [u16; 3] = [80, 8000, 8080];

/// D1.
pub(super) async fn resolver(around: &Surroundings<'_>, probe: &Ipv6Probe, report: &mut Report) {
    const ID: &str = "V6-D1";
    let Some(resolver) = probe.resolver6 else {
        return report.untested(ID, "no IPv6 address of a resolver is known");
    };
    if !around.targets.allows(IpAddr::V6(resolver)) {
        return report.untested(ID, format!("{resolver} lies outside the allowed prefixes"));
    }
    let name = |service: &Ipv6Service| {
        let host = service.host.trim_end_matches('.');
        host.parse::<IpAddr>().is_err().then(|| host.to_owned())
    };
    let query = Probe::Dns(DnsProbe {
        transport: DnsTransport::Udp,
        port: 53,
        query_name: probe
            .services
            .iter()
            .find_map(name)
            .unwrap_or_else(|| ".".to_owned()),
        query_type: DnsType::Aaaa,
        ..DnsProbe::default()
    });
    let measured = around.probe(IpAddr::V6(resolver), query, ANSWER_TIME).await;
    let rcode = measured
        .values
        .iter()
        .find(|value| value.metric == metric::DNS_RCODE)
        .map(|value| value.raw);
    let answered = measured.outcome == Outcome::Ok
        || rcode.is_some_and(|rcode| RCODES_OF_ANSWERS.contains(&rcode));
    let took = i64::try_from(measured.duration.as_micros()).unwrap_or(i64::MAX);
    match measured.outcome {
        Outcome::NotMeasured => around.not_measured(report, ID, Some(measured.reason)),
        _ if answered => report.decide(ID, true, took, resolver.to_string()),
        _ => {
            let note = format!("{resolver}: {}", measured.reason.label());
            report.decide(ID, false, took, note);
        }
    }
}

/// What one service gave.
struct Seen {
    addresses: bool,
    /// Its port answered over IPv6, if only with a refusal.
    reachable: bool,
    connected: bool,
    /// Home page in order; `None` = it has none.
    page: Option<bool>,
    trouble: String,
}

/// D3, E1, E3.
pub(super) async fn services(around: &Surroundings<'_>, probe: &Ipv6Probe, report: &mut Report) {
    const IDS: [&str; 3] = ["V6-D3", "V6-E1", "V6-E3"];
    if probe.services.is_empty() {
        for id in IDS {
            report.untested(id, "no service is known");
        }
        return;
    }
    let mut all = Vec::with_capacity(probe.services.len());
    for service in &probe.services {
        match look(around, service).await {
            Ok(seen) => all.push((service, seen)),
            Err(why) => {
                let note = format!("{}: {why}", service.name);
                for id in IDS {
                    report.untested(id, note.as_str());
                }
                return;
            }
        }
    }
    let failing = |fails: &dyn Fn(&Seen) -> bool| -> Vec<String> {
        let failing = all.iter().filter(|(_, seen)| fails(seen));
        failing
            .map(|(service, seen)| format!("{}: {}", service.name, seen.trouble))
            .collect()
    };
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);

    let missing = failing(&|seen| !seen.addresses || !seen.reachable);
    report.decide(
        "V6-D3",
        missing.is_empty(),
        count(missing.len()) * 1_000,
        missing.join(", "),
    );

    let unconnected = failing(&|seen| !seen.connected);
    let share = count(all.len() - unconnected.len()) * 100_000 / count(all.len());
    report.decide(
        "V6-E1",
        unconnected.is_empty(),
        share,
        unconnected.join(", "),
    );

    if all.iter().all(|(_, seen)| seen.page.is_none()) {
        return report.enter(
            "V6-E3",
            Verdict::NotApplicable,
            None,
            "no service has a home page",
        );
    }
    let bad = failing(&|seen| seen.page == Some(false));
    report.decide(
        "V6-E3",
        bad.is_empty(),
        count(bad.len()) * 1_000,
        bad.join(", "),
    );
}

/// Looks at one service; an error says why this machine could not.
async fn look(around: &Surroundings<'_>, service: &Ipv6Service) -> Result<Seen, String> {
    let mut seen = Seen {
        addresses: false,
        reachable: false,
        connected: false,
        page: has_page(service).then_some(false),
        trouble: "no AAAA record".to_owned(),
    };
    let addresses = aaaa(around, service).await;
    let Some(&address) = addresses.first() else {
        return Ok(seen);
    };
    seen.addresses = true;
    if !around.targets.allows(IpAddr::V6(address)) {
        return Err(format!("{address} lies outside the allowed prefixes"));
    }
    let connected = connect(around, IpAddr::V6(address), service.port).await;
    match connected.outcome {
        Outcome::NotMeasured if around.can_reach_out => {
            return Err(connected.reason.label().to_owned());
        }
        Outcome::Ok => (seen.reachable, seen.connected) = (true, true),
        _ => seen.reachable = matches!(connected.reason, Reason::Refused | Reason::Reset),
    }
    connected.reason.label().clone_into(&mut seen.trouble);
    if seen.connected && seen.page.is_some() {
        let page = around
            .probe(IpAddr::V6(address), page_of(service), PAGE_TIME)
            .await;
        match page.outcome {
            Outcome::NotMeasured => return Err(page.reason.label().to_owned()),
            outcome => seen.page = Some(outcome == Outcome::Ok),
        }
        page.reason.label().clone_into(&mut seen.trouble);
    }
    Ok(seen)
}

/// Addresses of the service in IPv6 alone, by the machine's own resolver.
async fn aaaa(around: &Surroundings<'_>, service: &Ipv6Service) -> Vec<Ipv6Addr> {
    let lookup = tokio::net::lookup_host((service.host.as_str(), service.port));
    let found = timeout_at(around.deadline, lookup).await;
    let addresses = found.ok().and_then(Result::ok).into_iter().flatten();
    addresses
        .filter_map(|address| match address.ip() {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => Some(v6),
            _ => None,
        })
        .collect()
}

fn has_page(service: &Ipv6Service) -> bool {
    service.tls || WEB_PORTS.contains(&service.port)
}

fn page_of(service: &Ipv6Service) -> Probe {
    let literal = service.host.parse::<IpAddr>().is_ok();
    Probe::Http(HttpProbe {
        port: service.port,
        tls: service.tls,
        host: if literal {
            String::new()
        } else {
            service.host.clone()
        },
        ..HttpProbe::default()
    })
}
