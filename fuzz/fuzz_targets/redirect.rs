//! Any text as the place to which a web server redirects, and any pieces as the body in which a text is looked for.
#![no_main]

use extranet_agent::packet::http::{Needle, PATH_BYTES, Place};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, bool, &str, Vec<&[u8]>)| {
    let (location, tls, wanted, pieces) = input;
    let start = Place {
        tls,
        host: "portal.example".to_owned(),
        port: 8_080,
        path: "/a/b?c".to_owned(),
    };
    if let Ok(next) = start.follow(location) {
        assert!(next.port > 0 && !next.host.is_empty());
        assert!(next.path.starts_with('/') && next.path.len() <= PATH_BYTES);
        // Nothing in it can end a line or a field of a request.
        let request = format!("{} {}", next.authority(), next.path);
        assert_eq!(request.split(' ').count(), 2);
        assert!(request.is_ascii() && !request.contains(|c: char| c.is_ascii_control()));
        // The authority is read as what it was written for.
        let scheme = if next.tls { "https" } else { "http" };
        let again = format!("{scheme}://{}{}", next.authority(), next.path);
        assert_eq!(start.follow(&again), Ok(next));
    }
    let mut needle = Needle::new(wanted);
    for piece in &pieces {
        needle.look_in(piece);
    }
    let whole = pieces.concat();
    let is_there = wanted.is_empty()
        || whole
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes());
    assert_eq!(needle.is_found(), is_there);
});
