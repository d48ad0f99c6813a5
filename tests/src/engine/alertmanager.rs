//! Prometheus Alertmanager, alone (no cluster), notifying a webhook.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{READY_PATIENCE, free_tcp_port};
use crate::http;
use crate::place::Place;
use crate::process::Process;

/// A running Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    place: Place,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Alertmanager {
    /// Starts Alertmanager with its state in `folder` and waits until it is ready. Every alert is a group of its own
    /// and is notified at once, so that each notification at `webhook` is one opening or closing.
    pub fn start(place: &Place, folder: &Path, webhook: &str) -> Self {
        let configuration = format!(
            "route:\n  receiver: lab\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n  \
             repeat_interval: 1h\nreceivers:\n- name: lab\n  webhook_configs:\n  - url: {webhook}\n    \
             send_resolved: true\n"
        );
        std::fs::write(folder.join("alertmanager.yml"), configuration)
            .expect("the test's folder is writable");
        let mut alertmanager = Self {
            place: place.clone(),
            folder: folder.to_owned(),
            port: free_tcp_port(place),
            process: None,
        };
        alertmanager.restart();
        alertmanager
    }

    /// Ends Alertmanager without warning, if it runs, and starts it again on the same port and state.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = self.place.command("prometheus-alertmanager");
        command
            .arg(format!(
                "--config.file={}",
                self.folder.join("alertmanager.yml").display()
            ))
            .arg(format!(
                "--storage.path={}",
                self.folder.join("alertmanager").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .args(["--cluster.listen-address=", "--log.level=warn"]);
        let mut process = Process::start("alertmanager", command, &self.folder);
        let ready = format!("{}/-/ready", self.url());
        process.wait_until("readiness", READY_PATIENCE, || {
            http::get(&self.place, &ready)?.ok()
        });
        self.process = Some(process);
    }

    /// Ends Alertmanager without warning.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The alerts that are active now.
    pub fn active(&self) -> Result<Vec<Value>, String> {
        let url = format!("{}/api/v2/alerts?active=true", self.url());
        match http::get(&self.place, &url)?.json()? {
            Value::Array(alerts) => Ok(alerts),
            other => Err(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::wait_until;
    use crate::webhook::Webhook;
    use std::time::Duration;

    #[test]
    fn an_alert_is_notified_once_when_it_opens_and_once_when_it_closes() {
        let folder = tempfile::tempdir().unwrap();
        let webhook = Webhook::start(&Place::Host);
        let alertmanager = Alertmanager::start(&Place::Host, folder.path(), &webhook.url());
        let url = format!("{}/api/v2/alerts", alertmanager.url());
        let send = |times: &str| {
            let body = format!("[{{\"labels\":{{\"alertname\":\"Lab\"}}{times}}}]").into_bytes();
            http::post(&Place::Host, &url, "application/json", body)
                .unwrap()
                .ok()
                .unwrap();
        };
        send("");
        let seen = |count: usize, status: &str| {
            let received = webhook.received();
            match received.last() {
                Some(last) if received.len() == count && last["status"] == status => Ok(()),
                _ => Err(format!("{received:?}")),
            }
        };
        wait_until("the opening", Duration::from_secs(10), || seen(1, "firing"));
        assert_eq!(
            alertmanager.active().unwrap()[0]["labels"]["alertname"],
            "Lab"
        );
        send(",\"startsAt\":\"2020-01-01T00:00:00Z\",\"endsAt\":\"2020-01-01T00:00:01Z\"");
        wait_until("the closing", Duration::from_secs(10), || {
            seen(2, "resolved")
        });
        assert!(alertmanager.active().unwrap().is_empty());
    }
}
