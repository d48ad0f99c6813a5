//! Options of `measure --probe icmp`.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use extranet_agent::config::reader::parse_duration;
use extranet_proto::assignment::IcmpProbe;

#[derive(Debug, Args)]
pub(super) struct EchoArgs {
    /// icmp: from one request to the next
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = parse_duration)]
    gap: Duration,
    /// icmp: bytes behind the ICMP header
    #[arg(long, value_name = "BYTES", default_value_t = 56, value_parser = clap::value_parser!(u16).range(16..=65_000))]
    payload: u16,
    /// icmp: differentiated services code point
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=63))]
    dscp: u8,
    /// icmp: no fragments
    #[arg(long)]
    dont_fragment: bool,
    /// icmp: time to live or hop limit [default: that of the machine]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    hop_limit: Option<u8>,
    /// icmp: source address, of the agent
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// icmp: interface of the agent
    #[arg(long, value_name = "NAME", default_value = "")]
    interface: String,
}

impl EchoArgs {
    pub(super) fn probe(&self, packets: u16) -> IcmpProbe {
        IcmpProbe {
            packets,
            packet_interval: self.gap,
            payload_bytes: self.payload,
            dscp: self.dscp,
            dont_fragment: self.dont_fragment,
            hop_limit: self.hop_limit,
            source: self.source,
            interface: self.interface.clone(),
            ..IcmpProbe::default()
        }
    }
}
