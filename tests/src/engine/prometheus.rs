//! Prometheus as a remote-write target.

use std::path::Path;

use serde_json::Value;

use super::{READY_PATIENCE, free_tcp_port};
use crate::http;
use crate::place::Place;
use crate::process::Process;

/// A running Prometheus that scrapes nothing and receives remote write.
#[derive(Debug)]
pub struct Prometheus {
    place: Place,
    port: u16,
    _process: Process,
}

impl Prometheus {
    /// Starts Prometheus with its state in `folder` and waits until it is ready. Its window for late samples is the
    /// one that deploy/examples/prometheus.yml recommends.
    pub fn start(place: &Place, folder: &Path) -> Self {
        let port = free_tcp_port(place);
        let configuration = folder.join("prometheus.yml");
        std::fs::write(
            &configuration,
            include_str!("../../../deploy/examples/prometheus.yml"),
        )
        .expect("the test's folder is writable");
        let mut command = place.command("prometheus");
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("prometheus").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--log.level=warn"]);
        let mut process = Process::start("prometheus", command, folder);
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        process.wait_until("readiness", READY_PATIENCE, || {
            http::get(place, &ready)?.ok()
        });
        Self {
            place: place.clone(),
            port,
            _process: process,
        }
    }

    /// Where remote write goes.
    pub fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    /// An instant query: the rows of the answer.
    pub fn query(&self, promql: &str) -> Result<Vec<Value>, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = http::get_with(&self.place, &url, &[("query", promql)])?.json()?;
        let rows = answer["data"]["result"]
            .as_array()
            .ok_or_else(|| answer.to_string())?;
        Ok(rows.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_configuration_starts_and_answers() {
        let folder = tempfile::tempdir().unwrap();
        let prometheus = Prometheus::start(&Place::Host, folder.path());
        let rows = prometheus.query("vector(1)").unwrap();
        assert_eq!(rows[0]["value"][1], "1");
        // The receiver is on: it refuses a bad body instead of saying that it does not exist.
        let media = "application/x-protobuf";
        let answer = http::post(&Place::Host, &prometheus.write_url(), media, b"?".to_vec());
        assert_eq!(answer.unwrap().status, 400);
    }
}
