//! What an HTTP check reads of an answer by itself: where a redirect leads, and whether a text is in a body.

use std::net::{IpAddr, Ipv6Addr};

use extranet_proto::assignment::TargetAddress;

/// Longest path with query that is followed, bytes (guess: single sign-on puts some kilobytes there).
pub const PATH_BYTES: usize = 4_096;

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whether it is asked for through TLS.
    pub tls: bool,
    /// Host name, or an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path with query; starts with '/'.
    pub path: String,
}

/// Why a redirect cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// It is no URI.
    Malformed,
    /// It is not for the web.
    OtherScheme,
}

impl Place {
    /// Where a redirect from here leads (RFC 9110 section 10.2.2, RFC 3986 section 5).
    pub fn follow(&self, location: &str) -> Result<Self, NoPlace> {
        let location = location.split('#').next().unwrap_or_default();
        if location.is_empty() || !location.chars().all(|c| c.is_ascii_graphic()) {
            return Err(NoPlace::Malformed);
        }
        let place = if let Some(rest) = location.strip_prefix("//") {
            Self::at(self.tls, rest)?
        } else if let Some((scheme, rest)) = scheme_of(location) {
            let tls = match scheme.to_ascii_lowercase().as_str() {
                "http" => false,
                "https" => true,
                _ => return Err(NoPlace::OtherScheme),
            };
            Self::at(tls, rest.strip_prefix("//").ok_or(NoPlace::Malformed)?)?
        } else {
            Self {
                path: self.path_to(location),
                ..self.clone()
            }
        };
        if place.path.len() > PATH_BYTES {
            return Err(NoPlace::Malformed);
        }
        Ok(place)
    }

    /// From what stands behind the two slashes.
    fn at(tls: bool, rest: &str) -> Result<Self, NoPlace> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(NoPlace::Malformed)?;
        let (host, port) = host_and_port(authority).ok_or(NoPlace::Malformed)?;
        let usual = if tls { 443 } else { 80 };
        Ok(Self {
            tls,
            host,
            port: port.unwrap_or(usual),
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        })
    }

    /// The path of a relative reference. Dots are left in: servers understand them.
    fn path_to(&self, reference: &str) -> String {
        if reference.starts_with('/') {
            return reference.to_owned();
        }
        let own = self.path.split('?').next().unwrap_or_default();
        if reference.starts_with('?') {
            return format!("{own}{reference}");
        }
        let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{reference}")
    }

    /// The host as it stands in a URI and in the header `Host`, with the port where it is not the usual one.
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let host = match self.host.parse::<Ipv6Addr>() {
            Ok(v6) => format!("[{v6}]"),
            Err(_) => self.host.clone(),
        };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Scheme and the rest, if it is an absolute reference.
fn scheme_of(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let is_scheme =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(letter);
    is_scheme.then_some((scheme, rest))
}

fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    // Nobody gets a name and a password from us.
    if authority.contains('@') {
        return None;
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        (address.to_string(), port)
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        let (host, port) = authority.split_at_checked(end)?;
        // The same names that an assignment may have.
        if host.starts_with('@') || host.parse::<TargetAddress>().is_err() {
            return None;
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
    };
    Some((host, port))
}

/// The address that a host is, if it is one.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

/// Looks for a text in pieces, without keeping them.
#[derive(Debug)]
pub struct Needle<'a> {
    text: &'a [u8],
    /// The end of what was seen, one byte shorter than the text.
    end: Vec<u8>,
    found: bool,
}

impl<'a> Needle<'a> {
    /// An empty text is everywhere.
    pub const fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            end: Vec::new(),
            found: text.is_empty(),
        }
    }

    /// Whether a text is in one piece.
    pub fn found_in(text: &str, piece: &[u8]) -> bool {
        let mut needle = Needle::new(text);
        needle.look_in(piece);
        needle.found
    }

    /// Whether the text was seen.
    pub const fn is_found(&self) -> bool {
        self.found
    }

    /// Looks at the next piece.
    pub fn look_in(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        self.end.extend_from_slice(piece);
        self.found = self
            .end
            .windows(self.text.len())
            .any(|window| window == self.text);
        let surplus = self.end.len().saturating_sub(self.text.len() - 1);
        self.end.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        let start = Place {
            tls: false,
            host: "start.example".to_owned(),
            port: 8080,
            path: "/a/b?c=d".to_owned(),
        };
        start.follow(text).unwrap()
    }

    #[test]
    fn redirects_lead_where_browsers_go() {
        for (location, tls, host, port, path) in [
            ("https://Portal.example", true, "portal.example", 443, "/"),
            (
                "http://portal.example/x#y",
                false,
                "portal.example",
                80,
                "/x",
            ),
            (
                "HTTPS://[2001:db8::1]:8443/x",
                true,
                "2001:db8::1",
                8443,
                "/x",
            ),
            ("http://10.0.0.1?q", false, "10.0.0.1", 80, "/?q"),
            ("//other.example/z", false, "other.example", 80, "/z"),
            (
                "/login?next=http://x/",
                false,
                "start.example",
                8080,
                "/login?next=http://x/",
            ),
            ("next", false, "start.example", 8080, "/a/next"),
            ("?page=2", false, "start.example", 8080, "/a/b?page=2"),
        ] {
            let found = place(location);
            let expected = (tls, host, port, path);
            let found = (
                found.tls,
                found.host.as_str(),
                found.port,
                found.path.as_str(),
            );
            assert_eq!(found, expected, "{location}");
        }
        assert_eq!(place("https://[::1]/").authority(), "[::1]");
        assert_eq!(place("https://a:80/").authority(), "a:80");
    }

    #[test]
    fn what_is_no_page_is_not_followed() {
        let start = place("/");
        for (location, why) in [
            ("", NoPlace::Malformed),
            ("#only", NoPlace::Malformed),
            ("ftp://a/", NoPlace::OtherScheme),
            ("javascript:alert(1)", NoPlace::OtherScheme),
            ("http:relative", NoPlace::Malformed),
            ("http://user@a/", NoPlace::Malformed),
            ("http://a:0/", NoPlace::Malformed),
            ("http://a:99999/", NoPlace::Malformed),
            ("http://[::1", NoPlace::Malformed),
            ("http:///x", NoPlace::Malformed),
            ("http://@gateway/", NoPlace::Malformed),
            ("http://a/ b", NoPlace::Malformed),
            ("/门户", NoPlace::Malformed),
        ] {
            assert_eq!(start.follow(location), Err(why), "{location}");
        }
        let long = format!("/{}", "x".repeat(PATH_BYTES));
        assert_eq!(start.follow(&long), Err(NoPlace::Malformed));
    }

    #[test]
    fn a_text_is_found_across_pieces_and_nothing_is_kept() {
        for (text, pieces, found) in [
            ("", vec![], true),
            ("abc", vec!["ab", "c"], true),
            ("abc", vec!["a", "b", "c"], true),
            ("abc", vec!["ab", "", "abd"], false),
            ("aab", vec!["aaa", "b"], true),
            ("政务", vec!["电子政", "务外网"], true),
            ("x", vec![], false),
        ] {
            let mut needle = Needle::new(text);
            for piece in &pieces {
                needle.look_in(piece.as_bytes());
                assert!(needle.end.len() < text.len().max(1));
            }
            assert_eq!(needle.is_found(), found, "{text} in {pieces:?}");
        }
    }
}
