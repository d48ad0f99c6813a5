//! Requests into a place, one connection each: simple, and right in every namespace.

use std::time::Duration;

use serde_json::Value;

use crate::place::Place;

/// Longest a request may take. Far above what an engine on loopback needs, so that a stall is told from slowness.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

impl Answer {
    /// The body of a successful answer, else what went wrong.
    pub fn ok(self) -> Result<String, String> {
        if (200..300).contains(&self.status) {
            Ok(self.body)
        } else {
            Err(format!("status {}: {}", self.status, self.body))
        }
    }

    /// The body of a successful answer as JSON.
    pub fn json(self) -> Result<Value, String> {
        let body = self.ok()?;
        serde_json::from_str(&body).map_err(|error| format!("{error} in {body}"))
    }
}

/// Fetches a URL.
pub fn get(place: &Place, url: &str) -> Result<Answer, String> {
    request(place, |client| client.get(url))
}

/// Fetches a URL with query parameters.
pub fn get_with(place: &Place, url: &str, query: &[(&str, &str)]) -> Result<Answer, String> {
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", percent_encoded(value)))
        .collect();
    get(place, &format!("{url}?{}", query.join("&")))
}

/// Posts a body.
pub fn post(place: &Place, url: &str, media: &str, body: Vec<u8>) -> Result<Answer, String> {
    request(place, |client| {
        client.post(url).header("content-type", media).body(body)
    })
}

fn request(
    place: &Place,
    build: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder + Send,
) -> Result<Answer, String> {
    place.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        runtime.block_on(async {
            let client = reqwest::Client::builder()
                .no_proxy()
                .timeout(REQUEST_TIMEOUT)
                .build()
                .expect("a client without TLS can be built");
            let answer = build(&client).send().await.map_err(|error| chain(&error))?;
            let status = answer.status().as_u16();
            let body = answer.text().await.map_err(|error| chain(&error))?;
            Ok(Answer { status, body })
        })
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
        encoded
    })
}
