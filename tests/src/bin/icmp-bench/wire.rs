//! Round trips as the kernel saw them pass an interface: tcpdump's file, read here.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use extranet_tests::clock::wait_until;
use extranet_tests::namespace::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// tcpdump at work.
pub(crate) struct Watch {
    child: Child,
    file: String,
}

/// Writes what passes an interface into a file.
pub(crate) fn watch(namespace: &Namespace, interface: &str, folder: &Path) -> Watch {
    let file = folder.join("wire.pcap").to_string_lossy().into_owned();
    let mut command: Command = namespace.place().command("tcpdump");
    let child = command
        .args(["-Z", "root", "-U", "--immediate-mode", "-n", "-s", "128"])
        .args([
            "--time-stamp-precision=nano",
            "-i",
            interface,
            "-w",
            &file,
            "icmp",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tcpdump is installed");
    // The header of the file is written when the interface is being watched.
    wait_until("tcpdump", Duration::from_secs(10), || {
        let bytes = std::fs::metadata(&file)
            .map_err(|error| error.to_string())?
            .len();
        if bytes >= 24 {
            Ok(())
        } else {
            Err(format!("{bytes} bytes"))
        }
    });
    Watch { child, file }
}

impl Watch {
    /// Waits for so many round trips, ends it and returns them by the order of the requests, µs.
    pub(crate) fn round_trips(mut self, count: usize) -> Vec<f64> {
        wait_until("tcpdump's file", Duration::from_secs(20), || {
            let found = pair(&std::fs::read(&self.file).map_err(|error| error.to_string())?).len();
            if found >= count {
                Ok(())
            } else {
                Err(format!("{found} round trips"))
            }
        });
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, Signal::SIGINT).ok();
        self.child.wait().expect("tcpdump ends");
        let bytes = std::fs::read(&self.file).expect("tcpdump wrote it");
        pair(&bytes)
    }
}

fn pair(file: &[u8]) -> Vec<f64> {
    assert_eq!(
        file[..4],
        0xa1b2_3c4d_u32.to_ne_bytes(),
        "nanoseconds, this machine's order"
    );
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let mut requests: Vec<((u16, u16), u64)> = Vec::new();
    let mut replies: HashMap<(u16, u16), u64> = HashMap::new();
    let mut at = 24;
    // The last packet may be written only in part.
    while at + 16 <= file.len() && at + 16 + word(at + 8) as usize <= file.len() {
        let nanoseconds = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let packet = &file[at + 16..at + 16 + length];
        at += 16 + length;
        let icmp = &packet[usize::from(packet[0] & 15) * 4..];
        let id = (
            u16::from_be_bytes([icmp[4], icmp[5]]),
            u16::from_be_bytes([icmp[6], icmp[7]]),
        );
        match icmp[0] {
            8 => requests.push((id, nanoseconds)),
            0 => drop(replies.insert(id, nanoseconds)),
            _ => {}
        }
    }
    let round_trip = |(id, left): &((u16, u16), u64)| {
        let arrived = replies.get(id)?;
        Some(arrived.saturating_sub(*left) as f64 / 1e3)
    };
    requests.iter().filter_map(round_trip).collect()
}
