//! Any bytes as a certificate of a server.
#![no_main]

use extranet_agent::packet::certificate::Certificate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    if let Some(read) = Certificate::read(der) {
        assert!(read.names.split(',').count() <= 16);
        assert!(read.not_after_text.ends_with('Z'));
    }
});
