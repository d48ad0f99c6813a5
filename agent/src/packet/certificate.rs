//! What a certificate (X.509, DER) says about itself, for people. Nothing is believed or judged here.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

use crate::identity::ticket::{hex, sha256};

/// Most names of a certificate that are listed; some have hundreds.
const NAMES_MAX: usize = 16;

/// The facts of a certificate. Texts are as the certificate has them: to be cleaned before anybody sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub key_sha256: [u8; 32],
    /// Whole subject.
    pub subject: String,
    /// Whole issuer.
    pub issuer: String,
    /// Common name of the subject; may be empty.
    pub cn: String,
    /// Common name of the issuer; may be empty.
    pub issuer_cn: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Host names and addresses it is for, separated by commas; the first ones only where there are many.
    pub names: String,
    /// Not in force behind this time, seconds since 1970.
    pub not_after: i64,
    /// The same (RFC 3339).
    pub not_after_text: String,
}

impl Certificate {
    /// `None` for what is no certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let not_after = certificate.validity().not_after;
        Some(Self {
            key_sha256: sha256(certificate.public_key().raw),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            cn: common_name(certificate.subject()),
            issuer_cn: common_name(certificate.issuer()),
            serial: hex(certificate.raw_serial()),
            names: names(&certificate),
            not_after: not_after.timestamp(),
            not_after_text: rfc3339(not_after),
        })
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    let first = name.iter_common_name().next();
    first
        .and_then(|attribute| attribute.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return String::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    };
    let names = extension.value.general_names.iter().filter_map(text);
    names.take(NAMES_MAX).collect::<Vec<_>>().join(",")
}

fn rfc3339(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_tells_its_facts() {
        let names = ["portal.example".to_owned(), "10.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "门户");
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let read = Certificate::read(certificate.der()).unwrap();
        assert_eq!(
            (read.cn.as_str(), read.issuer_cn.as_str()),
            ("门户", "门户")
        );
        assert_eq!(read.names, "portal.example,10.0.0.1");
        assert_eq!(read.not_after_text, "2031-02-03T00:00:00Z");
        assert_eq!(read.not_after, 1_927_843_200);
        assert!(!read.serial.is_empty());
        assert_eq!(Certificate::read(&certificate.der()[1..]), None);
    }
}
