//! Checks of pages and certificates: HTTP and TLS.

use std::str::FromStr;

use extranet_agent::config::reader::Reader;
use extranet_proto::{limits, wire};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::application::number;

/// What a check may read of a page where the plan does not say.
const BODY_BYTES: u64 = 1 << 20;

struct Version(i32);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = match text {
            "any" => wire::HttpVersion::Any,
            "1.1" => wire::HttpVersion::HttpVersion11,
            "2" => wire::HttpVersion::HttpVersion2,
            _ => return Err("use any, 1.1, 2".to_owned()),
        };
        Ok(Self(version.into()))
    }
}

struct Header(wire::HttpHeader);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, contains) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self(wire::HttpHeader {
            name: name.trim().to_owned(),
            contains: contains.trim().to_owned(),
        }))
    }
}

/// A SHA-256 digest in hexadecimal digits.
struct Digest(Vec<u8>);

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "use SHA-256 digests: 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(byte).collect();
        bytes.map(Self).ok_or_else(wrong)
    }
}

/// The keys of an HTTP check that do not come from the target.
pub(super) fn read_http(reader: &mut Reader<'_>) -> wire::HttpProbe {
    let headers: Vec<Header> = reader.list("headers", Vec::new());
    wire::HttpProbe {
        expected_status_min: number(reader.integer("status_min", 200, 100..=999)),
        expected_status_max: number(reader.integer("status_max", 399, 100..=999)),
        body_contains: reader.string("contains", ""),
        body_lacks: reader.string("lacks", ""),
        redirects_max: number(reader.integer(
            "redirects",
            0,
            0..=u64::from(limits::HTTP_REDIRECTS),
        )),
        body_bytes_max: number(reader.bytes(
            "body_max",
            BODY_BYTES,
            1..=u64::from(limits::HTTP_BODY_BYTES),
        )),
        version: reader
            .parsed("version", Version(wire::HttpVersion::Any.into()))
            .0,
        expected_headers: headers.into_iter().map(|header| header.0).collect(),
        verify_chain: reader.boolean("verify", false),
        roots: roots(reader),
        ..wire::HttpProbe::default()
    }
}

/// The keys of a TLS check that do not come from the target.
pub(super) fn read_tls(reader: &mut Reader<'_>) -> wire::TlsProbe {
    let keys: Vec<Digest> = reader.list("keys", Vec::new());
    wire::TlsProbe {
        verify_chain: reader.boolean("verify", true),
        roots: roots(reader),
        fail_on_change: reader.boolean("fail_on_change", false),
        key_sha256: keys.into_iter().map(|key| key.0).collect(),
        ..wire::TlsProbe::default()
    }
}

fn roots(reader: &mut Reader<'_>) -> Vec<Vec<u8>> {
    let pem = reader.string("roots", "");
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match roots {
        Ok(roots) if pem.is_empty() || !roots.is_empty() => {
            roots.into_iter().map(|root| root.to_vec()).collect()
        }
        _ => {
            reader.problem(
                "roots",
                "use certificates in PEM form, one behind the other",
            );
            Vec::new()
        }
    }
}
