//! `Debug` of the wire messages that hold a secret, so that no log line, however careless, shows one. `build.rs` names
//! the same messages.

use std::fmt;

use crate::wire;

/// What stands in the place of a secret.
const HIDDEN: &str = "<secret>";

impl fmt::Debug for wire::SnmpCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnmpCredential")
            .field("auth_protocol", &self.auth_protocol)
            .field("privacy_protocol", &self.privacy_protocol)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for wire::EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("ticket_secret", &HIDDEN)
            .field("ap_id", &self.ap_id)
            .field("certificate_request", &self.certificate_request.len())
            .field("agent_version", &self.agent_version)
            .finish()
    }
}

impl fmt::Debug for wire::NewTicketReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTicketReply")
            .field("ticket", &HIDDEN)
            .field("expires_wall_us", &self.expires_wall_us)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_text_shows_a_secret() {
        let word = || "abracadabra".to_owned();
        let credential = wire::SnmpCredential {
            community: word(),
            user: word(),
            auth_password: word(),
            privacy_password: word(),
            context: word(),
            ..wire::SnmpCredential::default()
        };
        let probe = wire::SnmpProbe {
            credential: Some(credential),
            ..wire::SnmpProbe::default()
        };
        let check = wire::Check {
            probe: Some(wire::check::Probe::Snmp(probe)),
            ..wire::Check::default()
        };
        let enrol = wire::EnrolRequest {
            ticket_secret: word().into_bytes(),
            ..wire::EnrolRequest::default()
        };
        let ticket = wire::NewTicketReply {
            ticket: word(),
            ..wire::NewTicketReply::default()
        };
        let text = format!("{check:?} {enrol:?} {ticket:#?}");
        let as_numbers = format!("{:?}", word().as_bytes());
        assert!(
            !text.contains(&word()) && !text.contains(&as_numbers),
            "{text}"
        );
    }
}
