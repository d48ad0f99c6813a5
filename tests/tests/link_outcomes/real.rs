//! Good answers of programs that others wrote: dnsmasq, chronyd, openssl.

use std::fs;
use std::path::Path;
use std::time::Duration;

use extranet_agent::probe::Measured;
use extranet_proto::record::Outcome;
use extranet_tests::clock::wait_until;
use extranet_tests::process::Process;

use super::{FAR, HOST, Rig, measure, measurer, planned, value};

/// For a program to come up.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(rig: &Rig, folder: &Path, program: &str, arguments: &[&str]) -> Process {
    let mut command = rig.far.place().command(program);
    command.args(arguments).current_dir(folder);
    Process::start(program, command, folder)
}

/// Measures in both families until both ended well.
fn both_good(rig: &Rig, what: &str, keys: &str) -> [Measured; 2] {
    [(4, FAR[0]), (6, FAR[1])].map(|(family, address)| {
        let check = planned(keys, "2s", family, address, family.into());
        wait_until(what, PATIENCE, || {
            let measured = rig.at_site(async || measure(&measurer(), &check).await);
            if measured.outcome == Outcome::Ok {
                Ok(measured)
            } else {
                Err(format!("{measured:?}"))
            }
        })
    })
}

#[test]
fn dnsmasq_answers() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let _dnsmasq = start(
        &rig,
        folder.path(),
        "dnsmasq",
        &[
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--local=/test/",
            "--auth-ttl=60",
            "--address=/portal.test/10.9.0.80",
            "--address=/portal.test/fd00:9::80",
            "--txt-record=text.test,v=1,second piece",
            "--ptr-record=80.0.9.10.in-addr.arpa,portal.test",
        ],
    );
    let dns = |keys: &str| format!("probe = 'dns'\n{keys}");
    for measured in both_good(
        &rig,
        "an A record",
        &dns("query = 'portal.test'\nexpected = ['10.9.0.80']"),
    ) {
        assert_eq!(value(&measured, "probe_dns_answer_rrs"), Some(1.0));
        assert_eq!(value(&measured, "extranet_dns_queries_sent"), Some(1.0));
    }
    for (what, keys) in [
        (
            "an AAAA record over TCP",
            "query = 'portal.test'\ntype = 'AAAA'\ntransport = 'tcp'\nexpected = ['fd00:9::80']",
        ),
        (
            "a text",
            "query = 'text.test'\ntype = 'TXT'\nexpected = ['v=1second piece']",
        ),
        (
            "a name of an address",
            "query = '10.9.0.80'\ntype = 'PTR'\nexpected = ['portal.test']",
        ),
        ("a canary that stays dead", "query = 'test'\ncanary = true"),
    ] {
        both_good(&rig, what, &dns(keys));
    }
}

#[test]
fn chronyd_tells_the_time() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let conf = folder.path().join("chrony.conf");
    let text = format!(
        "local stratum 8\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
        folder.path().join("chronyd.pid").display()
    );
    fs::write(&conf, text).expect("the folder is ours");
    // -x: it never touches the clock of this machine; -d: in the foreground.
    let conf = conf.display().to_string();
    let arguments = ["-x", "-d", "-u", "root", "-f", &conf];
    let _chronyd = start(&rig, folder.path(), "chronyd", &arguments);
    for measured in both_good(&rig, "the time", "probe = 'ntp'") {
        assert_eq!(value(&measured, "ntp_stratum"), Some(8.0));
        assert_eq!(value(&measured, "ntp_leap"), Some(0.0));
        // Both ends read the same clock: the offset can be no larger than half of the round trip, and what either
        // end needs to read it.
        let offset = value(&measured, "ntp_drift_seconds").expect("an offset");
        let rtt = value(&measured, "ntp_rtt_seconds").expect("a round trip");
        assert!(offset.abs() <= rtt / 2.0 + 1e-3, "{offset} {rtt}");
    }
}

#[test]
fn openssl_shows_its_certificate_and_a_page() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (certificate, key) = rig.authority.issue_pem(HOST, 2090);
    for (name, pem) in [("cert.pem", certificate), ("key.pem", key)] {
        fs::write(folder.path().join(name), pem).expect("the folder is ours");
    }
    let arguments = [
        "s_server", "-accept", "443", "-cert", "cert.pem", "-key", "key.pem", "-www",
    ];
    let _openssl = start(&rig, folder.path(), "openssl", &arguments);
    let root = format!("roots = '''{}'''", rig.authority.pem);
    let tls = format!("probe = 'tls'\nport = 443\nserver_name = '{HOST}'\n{root}");
    for measured in both_good(&rig, "a certificate", &tls) {
        assert_eq!(value(&measured, "extranet_tls_version"), Some(1.3));
        // 2090-01-01.
        let expiry = Some(3_786_912_000.0);
        assert_eq!(value(&measured, "ssl_cert_not_after"), expiry);
    }
    let page = format!(
        "probe = 'http'\nport = 443\ntls = true\nhost = '{HOST}'\npath = '/'\nverify = true\n\
         contains = 'New, TLSv1.3'\n{root}"
    );
    for measured in both_good(&rig, "a page", &page) {
        assert_eq!(value(&measured, "probe_http_ssl"), Some(1.0));
    }
}
