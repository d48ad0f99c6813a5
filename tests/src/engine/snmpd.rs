//! net-snmp's agent: the device that SNMP checks ask.

use std::path::Path;
use std::process::Command;

use super::{READY_PATIENCE, free_udp_port};
use crate::place::Place;
use crate::process::Process;

/// Community of the laboratory's devices.
pub const COMMUNITY: &str = "laboratory";

/// A running snmpd.
#[derive(Debug)]
pub struct Snmpd {
    address: String,
    port: u16,
    _process: Process,
}

impl Snmpd {
    /// Starts snmpd on a free loopback port of the place.
    pub fn start(place: &Place, folder: &Path) -> Self {
        Self::start_at(place, folder, "127.0.0.1", free_udp_port(place))
    }

    /// Starts snmpd at an address of the place and waits until it answers.
    pub fn start_at(place: &Place, folder: &Path, address: &str, port: u16) -> Self {
        let configuration = folder.join("snmpd.conf");
        let text = format!(
            "agentAddress udp:{address}:{port}\nrocommunity {COMMUNITY}\nsysName lab-router\n\
             sysLocation laboratory\nsysContact nobody\n"
        );
        std::fs::write(&configuration, text).expect("the test's folder is writable");
        let mut command = place.command("snmpd");
        command
            .args(["-f", "-Lo", "-m", "", "-C", "-c"])
            .arg(&configuration)
            .env("SNMP_PERSISTENT_DIR", folder.join("snmpd"));
        let mut process = Process::start("snmpd", command, folder);
        let ask = || {
            let mut ask = place.command("snmpget");
            ask.args([
                "-v2c", "-c", COMMUNITY, "-m", "", "-t", "1", "-r", "0", "-On",
            ])
            .arg(format!("udp:{address}:{port}"))
            .arg(".1.3.6.1.2.1.1.5.0");
            answer(&mut ask)
        };
        process.wait_until("an answer", READY_PATIENCE, ask);
        Self {
            address: address.to_owned(),
            port,
            _process: process,
        }
    }

    /// Address it answers at.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// UDP port it answers at.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_answers_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let snmpd = Snmpd::start(&Place::Host, folder.path());
        let mut ask = Place::Host.command("snmpget");
        ask.args(["-v2c", "-c", COMMUNITY, "-m", "", "-Oqv"])
            .arg(format!("udp:{}:{}", snmpd.address(), snmpd.port()))
            .arg(".1.3.6.1.2.1.1.5.0");
        assert_eq!(answer(&mut ask).unwrap().trim(), "\"lab-router\"");
    }
}
