//! rsyslog as Debian ships it, receiving over TCP and UDP, with structured data taken apart by its own parser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{READY_PATIENCE, free_tcp_port};
use crate::place::Place;
use crate::process::Process;

/// A running rsyslogd.
#[derive(Debug)]
pub struct Rsyslog {
    place: Place,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// The fields that are kept of each message: name here, property of rsyslog.
const FIELDS: [(&str, &str); 9] = [
    ("priority", "pri"),
    ("version", "protocol-version"),
    ("time", "timereported"),
    ("hostname", "hostname"),
    ("app", "app-name"),
    ("process", "procid"),
    ("id", "msgid"),
    ("raw", "structured-data"),
    ("text", "msg"),
];

impl Rsyslog {
    /// Starts rsyslogd with everything it has in `folder`, on a free loopback port of the place, TCP and UDP.
    pub fn start(place: &Place, folder: &Path) -> Self {
        let port = free_tcp_port(place);
        let mut fields = String::new();
        for (name, property) in FIELDS {
            let date = if name == "time" {
                " dateFormat=\"rfc3339\""
            } else {
                ""
            };
            let property =
                format!("property(outname=\"{name}\" name=\"{property}\"{date} format=\"jsonf\")");
            fields.push_str(&property);
            fields.push_str("\n  constant(value=\",\")\n  ");
        }
        let configuration = format!(
            "global(workDirectory=\"{folder}\" maxMessageSize=\"16k\")\n\
             module(load=\"imtcp\")\nmodule(load=\"imudp\")\nmodule(load=\"mmpstrucdata\")\n\
             template(name=\"fields\" type=\"list\") {{\n  constant(value=\"{{\")\n  {fields}\
             constant(value=\"\\\"data\\\":\")\n  property(name=\"$!rfc5424-sd\")\n  constant(value=\"}}\\n\")\n}}\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"lab\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"lab\")\n\
             ruleset(name=\"lab\") {{\n  action(type=\"mmpstrucdata\" sd_name.lowercase=\"off\")\n  \
             action(type=\"omfile\" file=\"{folder}/received\" template=\"fields\")\n}}\n",
            folder = folder.display(),
        );
        std::fs::write(folder.join("rsyslog.conf"), configuration)
            .expect("the test's folder is writable");
        let mut rsyslog = Self {
            place: place.clone(),
            folder: folder.to_owned(),
            port,
            process: None,
        };
        rsyslog.restart();
        rsyslog
    }

    /// Ends rsyslogd, if it runs, and starts it again on the same port.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = self.place.command("rsyslogd");
        command
            .arg("-n")
            .arg("-f")
            .arg(self.folder.join("rsyslog.conf"))
            .arg("-i")
            .arg(self.folder.join("rsyslog.pid"));
        let mut process = Process::start("rsyslog", command, &self.folder);
        let address = self.address();
        let place = self.place.clone();
        process.wait_until("its port", READY_PATIENCE, || {
            place
                .run(|| std::net::TcpStream::connect(&address))
                .map_err(|error| error.to_string())
        });
        self.process = Some(process);
    }

    /// Ends rsyslogd without warning.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        // What a killed one leaves behind keeps the next one from starting.
        std::fs::remove_file(self.folder.join("rsyslog.pid")).ok();
    }

    /// Asks rsyslogd to stop and waits until it has written everything.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(Duration::from_secs(10));
        }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything received so far, in order: the fields, and `data` with the structured data by SD-ID.
    pub fn received(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("received")).unwrap_or_default();
        // The last line may be half written.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..end).unwrap_or(""));
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::clock::wait_until;

    #[test]
    fn structured_data_is_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let rsyslog = Rsyslog::start(&Place::Host, folder.path());
        let message = r#"<162>1 2026-09-21T14:13:20.123Z host app 42 SEC-04 [a@1 x="\"\]\\"][b@2 y="z"] text"#;
        let framed = format!("{} {message}", message.len());
        let mut stream = std::net::TcpStream::connect(rsyslog.address()).unwrap();
        stream.write_all(framed.as_bytes()).unwrap();
        let one = wait_until("the message", Duration::from_secs(10), || {
            rsyslog.received().pop().ok_or_else(String::new)
        });
        assert_eq!(
            (one["priority"].as_str(), one["id"].as_str()),
            (Some("162"), Some("SEC-04"))
        );
        assert_eq!(one["data"]["a@1"]["x"], r#""]\"#);
        assert_eq!(one["data"]["b@2"]["y"], "z");
    }
}
