//! Prometheus remote write 1.0: the three messages of the protocol and their form on the wire.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>: a protobuf `WriteRequest`, compressed with snappy in its
//! block format. Labels are sorted by name, samples of a series by time.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;

/// prometheus.WriteRequest
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Each series once.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// prometheus.TimeSeries
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// prometheus.Label
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Label {
    /// Name; `__name__` holds the name of the metric.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value; never empty.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// prometheus.Sample
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// Value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// Labels of a series, sorted, shared between requests.
pub type Labels = Arc<[Label]>;

/// Makes sorted labels out of names and values; empty values are left out.
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    let mut all: Vec<Label> = pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect();
    // Stable: of two values for one name the first one stays; the caller puts ours first.
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|later, earlier| later.name == earlier.name);
    all.into()
}

/// Samples on their way into one request.
#[derive(Debug, Default)]
pub struct Collected {
    series: HashMap<Labels, Vec<Sample>>,
    samples: usize,
}

impl Collected {
    /// Adds a sample.
    pub fn push(&mut self, labels: Labels, timestamp: i64, value: f64) {
        self.series
            .entry(labels)
            .or_default()
            .push(Sample { value, timestamp });
        self.samples += 1;
    }

    /// How many samples wait.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// The waiting samples as requests of at most `most` samples each.
    pub fn take(&mut self, most: usize) -> Vec<WriteRequest> {
        self.samples = 0;
        let mut requests = Vec::new();
        let mut timeseries: Vec<TimeSeries> = Vec::new();
        let mut room = most;
        for (labels, mut samples) in self.series.drain() {
            samples.sort_by_key(|sample| sample.timestamp);
            let mut rest = samples.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(room));
                timeseries.push(TimeSeries {
                    labels: labels.to_vec(),
                    samples: now.to_vec(),
                });
                rest = later;
                room -= now.len();
                if room == 0 {
                    requests.push(WriteRequest {
                        timeseries: std::mem::take(&mut timeseries),
                    });
                    room = most;
                }
            }
        }
        if !timeseries.is_empty() {
            requests.push(WriteRequest { timeseries });
        }
        requests
    }
}

impl WriteRequest {
    /// How many samples it holds.
    pub fn samples(&self) -> usize {
        self.timeseries
            .iter()
            .map(|series| series.samples.len())
            .sum()
    }

    /// Body of the HTTP request.
    ///
    /// # Panics
    /// Never: snappy refuses only more than 4 GiB.
    pub fn body(&self) -> Vec<u8> {
        snap::raw::Encoder::new()
            .compress_vec(&self.encode_to_vec())
            .expect("a request is far below snappy's 4 GiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_without_empty_or_double_ones() {
        let made = labels([
            ("vrf", ""),
            ("check", "a"),
            ("__name__", "x"),
            ("ap_id", "1"),
        ]);
        let names: Vec<&str> = made.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(names, ["__name__", "ap_id", "check"]);
    }

    #[test]
    fn requests_hold_at_most_so_many_samples_in_order_of_time() {
        let mut collected = Collected::default();
        for i in (0..25).rev() {
            collected.push(labels([("__name__", "a")]), i, 1.0);
            collected.push(labels([("__name__", "b")]), i, 2.0);
        }
        assert_eq!(collected.len(), 50);
        let requests = collected.take(20);
        let sizes: Vec<usize> = requests.iter().map(WriteRequest::samples).collect();
        assert_eq!(sizes, [20, 20, 10]);
        assert!(collected.is_empty());
        for series in requests.iter().flat_map(|request| &request.timeseries) {
            assert!(series.samples.is_sorted_by_key(|sample| sample.timestamp));
        }
        let body = requests[0].body();
        let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        assert_eq!(WriteRequest::decode(plain.as_slice()).unwrap(), requests[0]);
    }
}
