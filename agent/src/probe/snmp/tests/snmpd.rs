//! A real snmpd with a configuration and state of its own on loopback.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use extranet_proto::record::Outcome;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{V4, V6, check, poller, run, v2c};

pub(super) const USER: &str = "monitor";
pub(super) const AUTH_PHRASE: &str = "auth phrase of the test";
pub(super) const PRIVACY_PHRASE: &str = "privacy phrase of the test";

/// Ended by its process id when dropped.
pub(super) struct Snmpd {
    pub(super) port: u16,
    child: Child,
    state: TempDir,
}

impl Snmpd {
    /// Starts on a free port and waits until it answers.
    pub(super) async fn start(more_configuration: &str) -> Self {
        Self::start_on(free_port(), more_configuration).await
    }

    pub(super) async fn start_on(port: u16, more_configuration: &str) -> Self {
        Self::start_again(port, more_configuration, TempDir::new().unwrap()).await
    }

    /// Ends it; what it keeps on disk, among it the number of its boots, stays for the next one.
    pub(super) fn keep_state(mut self) -> TempDir {
        std::mem::replace(&mut self.state, TempDir::new().unwrap())
    }

    /// Starts with what another one kept.
    pub(super) async fn start_again(port: u16, more_configuration: &str, state: TempDir) -> Self {
        let configuration = state.path().join("snmpd.conf");
        let text = format!(
            "rocommunity public 127.0.0.1\n\
             rocommunity6 public ::1\n\
             createUser {USER} SHA \"{AUTH_PHRASE}\" AES \"{PRIVACY_PHRASE}\"\n\
             rouser {USER} priv\n\
             sysLocation 拉萨 540100\n\
             {more_configuration}\n"
        );
        std::fs::write(&configuration, text).unwrap();
        let child = Command::new("/usr/sbin/snmpd")
            .args(["-f", "-Lo", "-C", "-c"])
            .arg(&configuration)
            .arg(format!("udp:127.0.0.1:{port},udp6:[::1]:{port}"))
            .env("SNMP_PERSISTENT_DIR", state.path().join("persistent"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("snmpd (Debian package snmpd) must be installed");
        let mut snmpd = Self { port, child, state };
        snmpd.wait_until_it_answers().await;
        snmpd
    }

    async fn wait_until_it_answers(&mut self) {
        let poller = poller();
        let deadline = Instant::now() + Duration::from_secs(15);
        for address in [V4, V6] {
            let check = check(1, self.port, v2c("public"), Duration::from_secs(1));
            loop {
                let measured = run(&poller, &check, address).await;
                if measured.outcome == Outcome::Ok {
                    break;
                }
                assert!(Instant::now() < deadline, "snmpd is mute: {measured:?}");
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none(), "snmpd ended: {ended:?}");
                // Refused at once while it starts: look again a little later.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        // Fails only if it has ended, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that is free on both loopback addresses at this moment.
fn free_port() -> u16 {
    loop {
        let v4 = UdpSocket::bind((V4, 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        if UdpSocket::bind((V6, port)).is_ok() {
            return port;
        }
    }
}
