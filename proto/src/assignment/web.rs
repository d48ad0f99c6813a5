//! HTTP and TLS: one request, one handshake.

use super::application::host;
use super::read::{narrow, port};
use crate::error::ProtoError;
use crate::{limits, wire};

/// Largest body where nothing else is said, bytes (guess: the page itself, without what it loads; on 512 kbit/s this
/// takes 16 s).
const BODY_BYTES: u32 = 1 << 20;

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Port of the target.
    pub port: u16,
    /// Whether the request goes through TLS.
    pub tls: bool,
    /// Header `Host` and TLS server name; empty = the address of the target.
    pub host: String,
    /// Path with query, starts with '/'.
    pub path: String,
    /// Lowest status that counts as success.
    pub expected_status_min: u16,
    /// Highest status that counts as success.
    pub expected_status_max: u16,
    /// Text that the body must contain; empty = any body.
    pub body_contains: String,
    /// Text that the body must not contain; empty = any body.
    pub body_lacks: String,
    /// Redirects that are followed at most; 0 = the redirect itself is judged.
    pub redirects_max: u16,
    /// Largest body, bytes.
    pub body_bytes_max: u32,
    /// Versions that will do.
    pub version: HttpVersion,
    /// Headers that the answer must have: names in lower case, with a text that one of their values must contain
    /// (empty = any value).
    pub expected_headers: Vec<(String, String)>,
    /// Whether an untrusted, expired or wrongly named certificate fails the check.
    pub verify_chain: bool,
    /// Trust anchors besides those of the system, DER.
    pub roots: Vec<Vec<u8>>,
}

/// The start page of the target by any version, without TLS; good unless the server complains.
impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            port: 80,
            tls: false,
            host: String::new(),
            path: "/".to_owned(),
            expected_status_min: 200,
            expected_status_max: 399,
            body_contains: String::new(),
            body_lacks: String::new(),
            redirects_max: 0,
            body_bytes_max: BODY_BYTES,
            version: HttpVersion::Any,
            expected_headers: Vec::new(),
            verify_chain: false,
            roots: Vec::new(),
        }
    }
}

/// Versions of HTTP that a check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/2 where TLS and the server agree on it, else HTTP/1.1.
    Any,
    /// HTTP/1.1 only.
    Http11,
    /// HTTP/2 only; without TLS by prior knowledge (RFC 9113 section 3.3).
    Http2,
}

/// One TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProbe {
    /// Port of the target.
    pub port: u16,
    /// Name for SNI and against the certificate; empty = the address of the target.
    pub server_name: String,
    /// Whether an untrusted, expired or wrongly named certificate fails the check.
    pub verify_chain: bool,
    /// Trust anchors besides those of the system, DER.
    pub roots: Vec<Vec<u8>>,
    /// Whether a certificate or key that is not the one of the run before fails the run.
    pub fail_on_change: bool,
    /// SHA-256 of the public keys (`SubjectPublicKeyInfo`) that the server may have; empty = any.
    pub key_sha256: Vec<[u8; 32]>,
}

/// A handshake on port 443 under the target's address, with a certificate that must be right.
impl Default for TlsProbe {
    fn default() -> Self {
        Self {
            port: 443,
            server_name: String::new(),
            verify_chain: true,
            roots: Vec::new(),
            fail_on_change: false,
            key_sha256: Vec::new(),
        }
    }
}

impl TryFrom<wire::HttpProbe> for HttpProbe {
    type Error = ProtoError;

    fn try_from(http: wire::HttpProbe) -> Result<Self, ProtoError> {
        ProtoError::check_len("http.path", http.path.len(), limits::HTTP_PATH_BYTES)?;
        if !http.path.starts_with('/') || !http.path.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ProtoError::Invalid {
                field: "http.path",
                rule: "must start with '/' and have no spaces and no letters outside of ASCII",
            });
        }
        for (field, text) in [
            ("http.body_contains", &http.body_contains),
            ("http.body_lacks", &http.body_lacks),
        ] {
            ProtoError::check_len(field, text.len(), limits::TEXT_BYTES)?;
        }
        let (min, max) = (http.expected_status_min, http.expected_status_max);
        let max = ProtoError::check_span("http.expected_status_max", max, 100, 999)?;
        let min = ProtoError::check_span("http.expected_status_min", min, 100, max)?;
        Ok(Self {
            port: port("http.port", http.port)?,
            tls: http.tls,
            host: host("http.host", http.host)?,
            path: http.path,
            expected_status_min: narrow("http.expected_status_min", min)?,
            expected_status_max: narrow("http.expected_status_max", max)?,
            body_contains: http.body_contains,
            body_lacks: http.body_lacks,
            redirects_max: narrow(
                "http.redirects_max",
                ProtoError::check_span(
                    "http.redirects_max",
                    http.redirects_max,
                    0,
                    limits::HTTP_REDIRECTS,
                )?,
            )?,
            body_bytes_max: match http.body_bytes_max {
                0 => BODY_BYTES,
                bytes => ProtoError::check_span(
                    "http.body_bytes_max",
                    bytes,
                    1,
                    limits::HTTP_BODY_BYTES,
                )?,
            },
            version: version(http.version)?,
            expected_headers: expected_headers(http.expected_headers)?,
            verify_chain: http.verify_chain,
            roots: roots("http.roots", http.roots)?,
        })
    }
}

fn version(number: i32) -> Result<HttpVersion, ProtoError> {
    match wire::HttpVersion::try_from(number) {
        Ok(wire::HttpVersion::Any) => Ok(HttpVersion::Any),
        Ok(wire::HttpVersion::HttpVersion11) => Ok(HttpVersion::Http11),
        Ok(wire::HttpVersion::HttpVersion2) => Ok(HttpVersion::Http2),
        Err(_) => Err(ProtoError::Unknown {
            field: "http.version",
            found: number,
        }),
    }
}

/// Names in lower case: the characters of RFC 9110 section 5.6.2.
fn expected_headers(headers: Vec<wire::HttpHeader>) -> Result<Vec<(String, String)>, ProtoError> {
    const FIELD: &str = "http.expected_headers";
    ProtoError::check_len(FIELD, headers.len(), limits::HTTP_HEADERS)?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let mut expected = Vec::with_capacity(headers.len());
    for header in headers {
        for text in [&header.name, &header.contains] {
            ProtoError::check_len(FIELD, text.len(), limits::TEXT_BYTES)?;
        }
        if header.name.is_empty() || !header.name.chars().all(token) {
            return Err(ProtoError::Invalid {
                field: FIELD,
                rule: "must have names of headers",
            });
        }
        expected.push((header.name.to_ascii_lowercase(), header.contains));
    }
    Ok(expected)
}

fn roots(field: &'static str, roots: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, ProtoError> {
    ProtoError::check_len(field, roots.len(), limits::TLS_ROOTS)?;
    for root in &roots {
        ProtoError::check_len(field, root.len(), limits::CERTIFICATE_BYTES)?;
    }
    Ok(roots)
}

impl From<&HttpProbe> for wire::HttpProbe {
    fn from(http: &HttpProbe) -> Self {
        let version = match http.version {
            HttpVersion::Any => wire::HttpVersion::Any,
            HttpVersion::Http11 => wire::HttpVersion::HttpVersion11,
            HttpVersion::Http2 => wire::HttpVersion::HttpVersion2,
        };
        Self {
            port: http.port.into(),
            tls: http.tls,
            host: http.host.clone(),
            path: http.path.clone(),
            expected_status_min: http.expected_status_min.into(),
            expected_status_max: http.expected_status_max.into(),
            body_contains: http.body_contains.clone(),
            body_lacks: http.body_lacks.clone(),
            redirects_max: http.redirects_max.into(),
            body_bytes_max: http.body_bytes_max,
            version: version.into(),
            expected_headers: http
                .expected_headers
                .iter()
                .map(|(name, contains)| wire::HttpHeader {
                    name: name.clone(),
                    contains: contains.clone(),
                })
                .collect(),
            verify_chain: http.verify_chain,
            roots: http.roots.clone(),
        }
    }
}

impl TryFrom<wire::TlsProbe> for TlsProbe {
    type Error = ProtoError;

    fn try_from(tls: wire::TlsProbe) -> Result<Self, ProtoError> {
        let found = tls.key_sha256.len();
        ProtoError::check_len("tls.key_sha256", found, limits::TLS_KEYS)?;
        let keys = tls.key_sha256.into_iter().map(|key| {
            key.try_into().map_err(|_| ProtoError::Invalid {
                field: "tls.key_sha256",
                rule: "must be SHA-256 digests of 32 bytes",
            })
        });
        Ok(Self {
            port: port("tls.port", tls.port)?,
            server_name: host("tls.server_name", tls.server_name)?,
            verify_chain: tls.verify_chain,
            roots: roots("tls.roots", tls.roots)?,
            fail_on_change: tls.fail_on_change,
            key_sha256: keys.collect::<Result<_, _>>()?,
        })
    }
}

impl From<&TlsProbe> for wire::TlsProbe {
    fn from(tls: &TlsProbe) -> Self {
        Self {
            port: tls.port.into(),
            server_name: tls.server_name.clone(),
            verify_chain: tls.verify_chain,
            roots: tls.roots.clone(),
            fail_on_change: tls.fail_on_change,
            key_sha256: tls.key_sha256.iter().map(|key| key.to_vec()).collect(),
        }
    }
}
