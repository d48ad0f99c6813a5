//! How people write what the rubric looks at.

use std::str::FromStr;

use extranet_proto::assignment::Ipv6Service;

/// A service as it is written on command lines and in plans: `https://portal.example`, `tcp://[fd00::1]:53`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl(pub Ipv6Service);

impl FromStr for ServiceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| "begins with http://, https:// or tcp://".to_owned())?;
        let (tls, usual) = match scheme {
            "http" => (false, Some(80)),
            "https" => (true, Some(443)),
            "tcp" => (false, None),
            _ => return Err("begins with http://, https:// or tcp://".to_owned()),
        };
        let rest = rest.trim_end_matches('/');
        let bracket_end = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest.rfind(':').filter(|colon| *colon > bracket_end) {
            Some(colon) => {
                let (host, port) = rest.split_at(colon);
                let port = port
                    .trim_start_matches(':')
                    .parse()
                    .map_err(|_| "has a bad port".to_owned())?;
                (host, port)
            }
            None => (rest, usual.ok_or_else(|| "needs a port".to_owned())?),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || port == 0 {
            return Err("needs a host and a port".to_owned());
        }
        Ok(Self(Ipv6Service {
            name: host.to_owned(),
            host: host.to_owned(),
            port,
            tls,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_written_as_urls() {
        let service = |text: &str| {
            let parsed: Result<ServiceUrl, _> = text.parse();
            parsed.map(|ServiceUrl(service)| (service.host, service.port, service.tls))
        };
        let ok = |host: &str, port, tls| Ok((host.to_owned(), port, tls));
        assert_eq!(
            service("https://portal.example"),
            ok("portal.example", 443, true)
        );
        assert_eq!(
            service("http://portal.example:8080/"),
            ok("portal.example", 8080, false)
        );
        assert_eq!(service("tcp://[fd00::1]:53"), ok("fd00::1", 53, false));
        assert_eq!(service("http://[fd00::1]"), ok("fd00::1", 80, false));
        for bad in [
            "portal.example",
            "tcp://host",
            "ftp://host",
            "http://",
            "http://h:x",
            "tcp://h:0",
        ] {
            assert!(service(bad).is_err(), "{bad}");
        }
    }
}
