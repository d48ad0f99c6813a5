//! VictoriaMetrics, single node.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{READY_PATIENCE, free_tcp_port};
use crate::http;
use crate::place::Place;
use crate::process::Process;

/// A series with everything the engine holds of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels, `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// (milliseconds since 1970, value), by time.
    pub samples: Vec<(i64, f64)>,
}

impl Series {
    /// A label, empty when the series does not have it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// One row of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// A running engine.
#[derive(Debug)]
pub struct Victoria {
    place: Place,
    folder: PathBuf,
    port: u16,
    scrapes: Option<PathBuf>,
    process: Option<Process>,
}

impl Victoria {
    /// Starts the engine with its state in `folder` and waits until it answers.
    pub fn start(place: &Place, folder: &Path) -> Self {
        let folder = folder.to_owned();
        let mut victoria = Self {
            place: place.clone(),
            folder,
            port: free_tcp_port(place),
            scrapes: None,
            process: None,
        };
        victoria.restart();
        victoria
    }

    /// Lets the engine fetch `/metrics` of these jobs every second; it restarts for that.
    pub fn scrape(&mut self, jobs: &[(&str, SocketAddr)]) {
        let mut text = "global:\n  scrape_interval: 1s\nscrape_configs:\n".to_owned();
        for (job, address) in jobs {
            write!(
                text,
                "  - job_name: {job}\n    static_configs:\n      - targets: [\"{address}\"]\n"
            )
            .expect("a string takes everything");
        }
        let path = self.folder.join("scrapes.yml");
        std::fs::write(&path, text).expect("the test's folder is writable");
        self.scrapes = Some(path);
        self.restart();
    }

    /// Ends the engine, if it runs, and starts it again on the same port and state.
    pub fn restart(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(READY_PATIENCE);
        }
        let mut command = self.place.command("victoria-metrics");
        command
            .arg(format!(
                "-storageDataPath={}",
                self.folder.join("victoria").display()
            ))
            .arg(format!("-httpListenAddr=127.0.0.1:{}", self.port))
            // As the manual asks for: a re-send must not count twice, a year must not vanish, and queries must not
            // hide the last 30 s.
            .args([
                "-dedup.minScrapeInterval=1ms",
                "-retentionPeriod=13",
                "-search.latencyOffset=1s",
                "-memory.allowedBytes=256MB",
                "-loggerLevel=WARN",
            ]);
        if let Some(scrapes) = &self.scrapes {
            command.arg(format!("-promscrape.config={}", scrapes.display()));
        }
        let mut process = Process::start("victoria-metrics", command, &self.folder);
        let health = format!("{}/health", self.url());
        process.wait_until("health", READY_PATIENCE, || {
            http::get(&self.place, &health)?.ok()
        });
        self.process = Some(process);
    }

    /// Ends the engine without warning: what it acknowledged in the last seconds is lost.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where remote write goes.
    pub fn write_url(&self) -> String {
        format!("{}/api/v1/write", self.url())
    }

    /// Every sample that the engine received of the series that match a selector, as `{__name__="probe_success"}`.
    pub fn export(&self, selector: &str) -> Result<Vec<Series>, String> {
        // A series that was asked for before it existed stays invisible for up to ten seconds otherwise.
        let flush = format!("{}/internal/force_flush", self.url());
        http::get(&self.place, &flush)?.ok()?;
        let url = format!("{}/api/v1/export", self.url());
        let body = http::get_with(&self.place, &url, &[("match[]", selector)])?.ok()?;
        body.lines().map(series).collect()
    }

    /// An instant query at the present, as a dashboard asks it.
    pub fn query(&self, promql: &str) -> Result<Vec<Point>, String> {
        let url = format!("{}/api/v1/query", self.url());
        let answer = http::get_with(&self.place, &url, &[("query", promql)])?.json()?;
        let rows = answer["data"]["result"]
            .as_array()
            .ok_or_else(|| answer.to_string())?;
        rows.iter()
            .map(|row| {
                let value = row["value"][1].as_str().and_then(|text| text.parse().ok());
                Ok(Point {
                    labels: labels(&row["metric"])?,
                    value: value.ok_or_else(|| row.to_string())?,
                })
            })
            .collect()
    }
}

fn labels(metric: &Value) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_value(metric.clone()).map_err(|error| error.to_string())
}

fn series(line: &str) -> Result<Series, String> {
    let row: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
    let times = row["timestamps"].as_array().ok_or(line)?;
    let values = row["values"].as_array().ok_or(line)?;
    let samples = times
        .iter()
        .zip(values)
        // Infinities and NaN come as null.
        .map(|(time, value)| Some((time.as_i64()?, value.as_f64().unwrap_or(f64::NAN))))
        .collect::<Option<_>>()
        .ok_or(line)?;
    Ok(Series {
        labels: labels(&row["metric"])?,
        samples,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{wait_until, wall_ms};
    use std::time::Duration;

    #[test]
    fn samples_come_back_with_their_own_timestamps() {
        let folder = tempfile::tempdir().unwrap();
        let mut victoria = Victoria::start(&Place::Host, folder.path());
        let times = [wall_ms() - 3_600_000, wall_ms() - 5_000];
        let lines = format!(
            "lab_test{{a=\"b\"}} 1.5 {}\nlab_test{{a=\"b\"}} 2.5 {}\n",
            times[0], times[1]
        );
        let url = format!("{}/api/v1/import/prometheus", victoria.url());
        http::post(&Place::Host, &url, "text/plain", lines.into_bytes())
            .unwrap()
            .ok()
            .unwrap();
        let expected = vec![(times[0], 1.5), (times[1], 2.5)];
        let look = |victoria: &Victoria| {
            let found = victoria.export("{__name__=\"lab_test\"}")?;
            match found.as_slice() {
                [series] if series.samples == expected && series.label("a") == "b" => Ok(()),
                _ => Err(format!("{found:?}")),
            }
        };
        wait_until("both samples", Duration::from_secs(10), || look(&victoria));
        wait_until("an answer", Duration::from_secs(10), || {
            match victoria.query("lab_test")?.as_slice() {
                [point] if point.value.to_string() == "2.5" => Ok(()),
                rows => Err(format!("{rows:?}")),
            }
        });

        victoria.restart();
        wait_until("both samples", Duration::from_secs(10), || look(&victoria));
    }
}
