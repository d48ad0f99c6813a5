//! Round trips as the kernel saw them pass an interface: tcpdump's file, read here.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use extranet_tests::clock::{now, wait_until};
use extranet_tests::namespace::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long tcpdump may take to write what it saw.
const SETTLE: Duration = Duration::from_secs(3);

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
    /// Ends it and returns the round trips of so many requests, µs, whose sequence numbers begin with `first`. Under
    /// load tcpdump misses one now and then.
    pub(crate) fn round_trips(mut self, first: u16, count: u16) -> Vec<Option<f64>> {
        let begun = now();
        loop {
            let seen = pair(&std::fs::read(&self.file).expect("tcpdump writes it"));
            if seen.len() >= usize::from(count) || begun.elapsed() > SETTLE {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, Signal::SIGINT).ok();
        self.child.wait().expect("tcpdump ends");
        let seen = pair(&std::fs::read(&self.file).expect("tcpdump wrote it"));
        let of = |index: u16| seen.get(&first.wrapping_add(index)).copied();
        (0..count).map(of).collect()
    }
}

/// Round trips by sequence number, µs: one tool at a time has the interface.
fn pair(file: &[u8]) -> HashMap<u16, f64> {
    assert_eq!(
        file[..4],
        0xa1b2_3c4d_u32.to_ne_bytes(),
        "nanoseconds, this machine's order"
    );
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let mut requests: HashMap<u16, u64> = HashMap::new();
    let mut round_trips = HashMap::new();
    let mut at = 24;
    // The last packet may be written only in part.
    while at + 16 <= file.len() && at + 16 + word(at + 8) as usize <= file.len() {
        let nanoseconds = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let packet = &file[at + 16..at + 16 + length];
        at += 16 + length;
        let icmp = &packet[usize::from(packet[0] & 15) * 4..];
        let sequence = u16::from_be_bytes([icmp[6], icmp[7]]);
        match (icmp[0], requests.get(&sequence)) {
            (8, _) => drop(requests.insert(sequence, nanoseconds)),
            (0, Some(left)) => {
                let took = nanoseconds.saturating_sub(*left);
                round_trips.insert(sequence, took as f64 / 1e3);
            }
            _ => {}
        }
    }
    round_trips
}
