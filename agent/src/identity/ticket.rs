//! Tickets: what a technician types or copies once so that a new agent and its collector recognise each other.
//!
//! ```text
//! ext1-540121-001-9f86d081884c7d659a2feaa0c55ad015-2c26b46b68ffc68ff99b453c1d304134...
//! |    |          |                                `- SHA-256 of the CA certificate (DER): whom the agent may trust
//! |    |          `- 16 random bytes: proves that the agent was sent by the collector
//! |    `- access point, which may contain '-': a ticket is taken apart from its right end
//! `- version of this form
//! ```
//!
//! A ticket works once and expires; whoever reads it before that can enrol in the agent's place, so it is passed in a
//! file or on standard input, never as an argument, and `Debug` does not show it.

use std::fmt;
use std::str::FromStr;

use extranet_proto::id::ApId;

/// Version and start of every ticket.
const PREFIX: &str = "ext1-";

/// A parsed ticket.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The access point that the agent will belong to.
    pub ap_id: ApId,
    /// Proof towards the collector, which stores its digest only.
    pub secret: [u8; 16],
    /// SHA-256 of the DER form of the collector's CA certificate.
    pub ca_fingerprint: [u8; 32],
}

/// Why a text is not a ticket. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It starts otherwise.
    #[error("a ticket starts with \"ext1-\"")]
    Prefix,
    /// Parts are missing, too short or too long.
    #[error(
        "a ticket is ext1-<access point>-<32 hexadecimal digits>-<64 hexadecimal digits>; was it cut off?"
    )]
    Shape,
    /// The access point id has characters that no id has.
    #[error("the ticket's access point id is not valid")]
    AccessPoint,
}

impl Ticket {
    /// A new ticket with a fresh secret.
    pub fn draw(ap_id: ApId, ca_fingerprint: [u8; 32]) -> Result<Self, getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(Self {
            ap_id,
            secret,
            ca_fingerprint,
        })
    }

    /// The text to hand out. Not `Display`, so that no log line shows it by accident.
    pub fn to_text(&self) -> String {
        format!(
            "{PREFIX}{}-{}-{}",
            self.ap_id,
            hex(&self.secret),
            hex(&self.ca_fingerprint)
        )
    }

    /// What the collector stores of the secret.
    pub fn secret_digest(&self) -> [u8; 32] {
        sha256(&self.secret)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, <secret>)", self.ap_id)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let rest = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(TicketError::Prefix)?;
        let (rest, fingerprint) = rest.rsplit_once('-').ok_or(TicketError::Shape)?;
        let (ap_id, secret) = rest.rsplit_once('-').ok_or(TicketError::Shape)?;
        Ok(Self {
            ap_id: ApId::new(ap_id).map_err(|_| TicketError::AccessPoint)?,
            secret: from_hex(secret).ok_or(TicketError::Shape)?,
            ca_fingerprint: from_hex(fingerprint).ok_or(TicketError::Shape)?,
        })
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |bits: u8| char::from(b"0123456789abcdef"[usize::from(bits & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// Exactly `N` bytes as hexadecimal digits of either case.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit)).ok())
        .collect();
    (digits.len() == 2 * N)
        .then(|| bytes.try_into().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket::draw(ApId::new("540121-001").unwrap(), [0xab; 32]).unwrap()
    }

    #[test]
    fn a_ticket_survives_its_text_also_with_dashes_in_the_id() {
        let ticket = ticket();
        assert_eq!(
            format!(" {}\n", ticket.to_text()).parse(),
            Ok(ticket.clone())
        );
        assert_ne!(ticket.secret, self::ticket().secret);
    }

    #[test]
    fn a_ticket_that_was_cut_or_changed_is_refused_without_being_shown() {
        let text = ticket().to_text();
        for cut in 0..text.len() {
            let error = text.get(..cut).unwrap().parse::<Ticket>().unwrap_err();
            assert!(!error.to_string().contains(&hex(&ticket().secret)));
        }
        assert_eq!("hello".parse::<Ticket>(), Err(TicketError::Prefix));
        let bad = text.replace("540121-001", "a b");
        assert_eq!(bad.parse::<Ticket>(), Err(TicketError::AccessPoint));
        assert!(!format!("{:?}", ticket()).contains("ext1"));
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4, example of the empty message.
        assert!(hex(&sha256(b"")).starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    }
}
