//! Notifications by net-snmp's own commands, and some that it would not send.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;

use super::super::tests::{V4, check, poller, run, v2c};
use super::*;
use crate::shell::shutdown;

const AUTH_PHRASE: &str = "auth phrase of the test";
const PRIVACY_PHRASE: &str = "privacy phrase of the test";
const DEADLINE: Duration = Duration::from_secs(20);
const LINK_DOWN: &str = "1.3.6.1.6.3.1.1.5.3";

fn v3(auth: &str, privacy: &str) -> SnmpCredential {
    SnmpCredential::V3 {
        user: "trapper".into(),
        auth: Some((auth.into(), AUTH_PHRASE.into())),
        privacy: Some((privacy.into(), PRIVACY_PHRASE.into())),
        context: String::new(),
    }
}

/// A receiver on loopback that believes 127.0.0.1 with these credentials.
struct Stand {
    port: u16,
    told: mpsc::Receiver<(i64, String)>,
    stats: Arc<Stats>,
    _stop: crate::shell::ShutdownTrigger,
}

impl Stand {
    async fn new(credentials: &[SnmpCredential]) -> Self {
        let poller = poller();
        // A device is known from its first run on, whether it answers or not.
        let closed = UdpSocket::bind((V4, 0))
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        for (id, credential) in (1..).zip(credentials) {
            let check = check(id, closed, credential.clone(), Duration::from_millis(300));
            run(&poller, &check, V4).await;
        }
        let socket = UdpSocket::bind((V4, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (sender, told) = mpsc::channel(64);
        let stats = Arc::new(Stats::new());
        let tell: Tell = Box::new(move |many, text| {
            sender.try_send((many, text.to_owned())).unwrap();
        });
        let (trigger, stop) = shutdown();
        let receiver = Receiver::new(poller, Arc::clone(&stats), tell);
        spawn_named("traps", receiver.run(socket, stop));
        Self {
            port,
            told,
            stats,
            _stop: trigger,
        }
    }

    /// Runs one of net-snmp's senders; whether it was content.
    async fn send(&self, program: &str, arguments: &[&str], bindings: &[&str]) -> bool {
        let state = tempfile::tempdir().unwrap();
        let status = Command::new(program)
            .args(arguments)
            .arg(format!("127.0.0.1:{}", self.port))
            .args(bindings)
            .env("SNMP_PERSISTENT_DIR", state.path())
            .env("SNMPCONFPATH", state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await
            .expect("net-snmp (Debian package snmp) must be installed");
        status.success()
    }

    async fn next(&mut self) -> String {
        let told = tokio::time::timeout(DEADLINE, self.told.recv()).await;
        told.expect("nothing was told").unwrap().1
    }

    async fn dropped(&self, reason: &str) {
        let deadline = Instant::now() + DEADLINE;
        let wanted = format!("extranet_agent_trap_dropped_total{{reason=\"{reason}\"}} 1");
        loop {
            let all = self.stats.render();
            if all.contains(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted} / {all}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const BINDINGS: [&str; 8] = [
    "",
    LINK_DOWN,
    "1.3.6.1.2.1.2.2.1.1.3",
    "i",
    "3",
    "1.3.6.1.2.1.31.1.1.1.1.3",
    "s",
    "eth2",
];
const TOLD: &str = "source=127.0.0.1 trap=linkDown ifIndex=3 ifName=eth2";

#[tokio::test]
async fn traps_and_informs_of_version_2c_are_told() {
    let mut stand = Stand::new(&[v2c("public")]).await;
    assert!(
        stand
            .send("snmptrap", &["-v", "2c", "-c", "public"], &BINDINGS)
            .await
    );
    assert_eq!(stand.next().await, TOLD);
    let mut up = BINDINGS;
    up[1] = "1.3.6.1.6.3.1.1.5.4";
    let acknowledged = stand
        .send("snmpinform", &["-v", "2c", "-c", "public"], &up)
        .await;
    assert!(acknowledged, "snmpinform fails without an acknowledgement");
    assert_eq!(stand.next().await, TOLD.replace("linkDown", "linkUp"));
}

#[tokio::test]
async fn traps_of_version_1_have_the_same_names() {
    let mut stand = Stand::new(&[v2c("public")]).await;
    let cold_start = ["1.3.6.1.4.1.99999", "127.0.0.1", "0", "0", ""];
    assert!(
        stand
            .send("snmptrap", &["-v", "1", "-c", "public"], &cold_start)
            .await
    );
    assert_eq!(stand.next().await, "source=127.0.0.1 trap=coldStart");
    let own = ["1.3.6.1.4.1.99999", "127.0.0.1", "6", "17", ""];
    assert!(
        stand
            .send("snmptrap", &["-v", "1", "-c", "public"], &own)
            .await
    );
    assert_eq!(
        stand.next().await,
        "source=127.0.0.1 trap=1.3.6.1.4.1.99999.0.17"
    );
}

#[tokio::test]
async fn version_3_is_verified_and_decrypted() {
    for (auth, privacy) in [
        ("SHA", "AES"),
        ("SHA-256", "AES"),
        ("MD5", "DES"),
        ("SHA-512", "AES-256"),
    ] {
        let mut stand = Stand::new(&[v3(auth, privacy)]).await;
        let security = [
            "-v",
            "3",
            "-e",
            "0x8000000001020304",
            "-l",
            "authPriv",
            "-u",
            "trapper",
            "-a",
            auth,
            "-A",
            AUTH_PHRASE,
            "-x",
            privacy,
            "-X",
            PRIVACY_PHRASE,
        ];
        assert!(
            stand.send("snmptrap", &security, &BINDINGS).await,
            "{auth} {privacy}"
        );
        assert_eq!(stand.next().await, TOLD, "{auth} {privacy}");
    }
}

#[tokio::test]
async fn informs_of_version_3_learn_our_engine_and_are_acknowledged() {
    for (auth, privacy) in [("SHA", "AES"), ("SHA-256", "AES-256")] {
        let mut stand = Stand::new(&[v3(auth, privacy)]).await;
        let security = [
            "-v",
            "3",
            "-l",
            "authPriv",
            "-u",
            "trapper",
            "-a",
            auth,
            "-A",
            AUTH_PHRASE,
            "-x",
            privacy,
            "-X",
            PRIVACY_PHRASE,
        ];
        assert!(
            stand.send("snmpinform", &security, &BINDINGS).await,
            "{auth} {privacy}"
        );
        assert_eq!(stand.next().await, TOLD, "{auth} {privacy}");
    }
}

#[tokio::test]
async fn what_cannot_be_believed_is_dropped_and_counted() {
    let stand = Stand::new(&[v2c("public")]).await;
    stand
        .send("snmptrap", &["-v", "2c", "-c", "guess"], &BINDINGS)
        .await;
    stand.dropped("not_authentic").await;

    let stand = Stand::new(&[]).await;
    stand
        .send("snmptrap", &["-v", "2c", "-c", "public"], &BINDINGS)
        .await;
    stand.dropped("unknown_source").await;

    let stand = Stand::new(&[v3("SHA", "AES")]).await;
    let security = [
        "-v",
        "3",
        "-e",
        "0x8000000001020304",
        "-l",
        "authPriv",
        "-u",
        "trapper",
        "-a",
        "SHA",
        "-A",
        "another phrase altogether",
        "-x",
        "AES",
        "-X",
        PRIVACY_PHRASE,
    ];
    stand.send("snmptrap", &security, &BINDINGS).await;
    stand.dropped("not_authentic").await;

    // No lower level than the one the device is polled with.
    let stand = Stand::new(&[v3("SHA", "AES")]).await;
    let security = [
        "-v",
        "3",
        "-e",
        "0x8000000001020304",
        "-l",
        "noAuthNoPriv",
        "-u",
        "trapper",
    ];
    stand.send("snmptrap", &security, &BINDINGS).await;
    stand.dropped("not_authentic").await;

    let stand = Stand::new(&[v2c("public")]).await;
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    socket
        .send_to(&[0x30, 0x81, 0x00], (V4, stand.port))
        .await
        .unwrap();
    stand.dropped("malformed").await;
}

/// Keeps what a sender sends.
async fn captured(security: &[&str]) -> Vec<u8> {
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    let (trigger, _) = shutdown();
    let stand = Stand {
        port: socket.local_addr().unwrap().port(),
        told: mpsc::channel(1).1,
        stats: Arc::new(Stats::new()),
        _stop: trigger,
    };
    assert!(stand.send("snmptrap", security, &BINDINGS).await);
    let mut buffer = vec![0; 65_535];
    let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}

fn take(receiver: &mut Receiver, datagram: &[u8]) -> Option<Vec<u8>> {
    receiver.take(datagram, SocketAddr::new(V4, 50_000))
}

#[tokio::test]
async fn a_captured_trap_is_not_believed_after_the_sender_restarted() {
    let security = [
        "-v",
        "3",
        "-e",
        "0x8000000001020304",
        "-l",
        "authNoPriv",
        "-u",
        "trapper",
        "-a",
        "SHA",
        "-A",
        AUTH_PHRASE,
    ];
    let old = captured(&[&security[..], &["-Z", "4,1000"]].concat()).await;
    let new = captured(&[&security[..], &["-Z", "5,10"]].concat()).await;
    let later = captured(&[&security[..], &["-Z", "5,500"]].concat()).await;
    let mut credential = v3("SHA", "AES");
    if let SnmpCredential::V3 { privacy, .. } = &mut credential {
        *privacy = None;
    }
    let poller = poller();
    run(
        &poller,
        &check(1, 9, credential, Duration::from_millis(200)),
        V4,
    )
    .await;
    let stats = Arc::new(Stats::new());
    let mut receiver = Receiver::new(poller, Arc::clone(&stats), Box::new(|_, _| {}));
    for (datagram, believed) in [(&old, 1), (&new, 2), (&old, 2), (&later, 3), (&new, 3)] {
        take(&mut receiver, datagram);
        assert_eq!(stats.trap_received.get(), believed);
    }
}

#[tokio::test]
async fn an_inform_is_acknowledged_after_it_was_told_and_each_time() {
    let capture = UdpSocket::bind((V4, 0)).await.unwrap();
    let port = capture.local_addr().unwrap().port();
    let mut sender = Command::new("snmpinform")
        .args(["-v", "2c", "-c", "public", "-r", "0", "-t", "1"])
        .arg(format!("127.0.0.1:{port}"))
        .args(BINDINGS)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = vec![0; 65_535];
    let (length, _) = capture.recv_from(&mut buffer).await.unwrap();
    let inform = buffer[..length].to_vec();
    sender.wait().await.unwrap();

    let poller = poller();
    run(
        &poller,
        &check(1, 9, v2c("public"), Duration::from_millis(200)),
        V4,
    )
    .await;
    let told = Arc::new(Mutex::new(0));
    let tell: Tell = {
        let told = Arc::clone(&told);
        Box::new(move |many, _| *told.lock().unwrap() += many)
    };
    let mut receiver = Receiver::new(poller, Arc::new(Stats::new()), tell);
    // `take` hands out the acknowledgement only when the event was recorded.
    let first = take(&mut receiver, &inform).unwrap();
    assert_eq!(*told.lock().unwrap(), 1);
    assert_eq!(
        take(&mut receiver, &inform),
        Some(first),
        "our answer was lost"
    );
    assert_eq!(*told.lock().unwrap(), 1, "the same event once");
}
