//! Who this agent is: ticket, key and certificate.

pub mod ticket;
