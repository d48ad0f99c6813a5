//! Every limit on what a peer may send, in one place. A limit that is a guess says so.

/// Largest gRPC message either side accepts, bytes. A block of this size holds hours of a switch with 48 ports.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// Largest block after decompression, bytes: 16 times a message bounds what a hostile peer can make us allocate.
pub const BLOCK_BYTES_UNPACKED: usize = 16 << 20;
/// Most records in one block. A live batch has tens, a backlog batch thousands.
pub const BLOCK_RECORDS: usize = 65_536;
/// Most values of one result: an ifXTable walk of 1,000 ports with 40 columns and other modules beside it fit.
pub const RESULT_VALUES: usize = 65_536;
/// Most values in one block, all results together.
pub const BLOCK_VALUES: usize = 1 << 20;
/// Most labels of one definition (guess: interfaces have four).
pub const DEFINITION_LABELS: usize = 16;
/// Longest label name, bytes.
pub const LABEL_NAME_BYTES: usize = 64;
/// Longest label value, bytes: `sysDescr` and `ifAlias` are at most 255 octets by their MIBs.
pub const LABEL_VALUE_BYTES: usize = 255;
/// Longest text of an agent event, bytes.
pub const EVENT_TEXT_BYTES: usize = 512;
/// Most checks in an assignment (guess: a county with 90 townships and ten checks each, twice over).
pub const ASSIGNMENT_CHECKS: usize = 4_096;
/// Most targets in an assignment.
pub const ASSIGNMENT_TARGETS: usize = 4_096;
/// Most ranges in an acknowledgement, a hello or a welcome. A spool that lost many segments has many gaps.
pub const RANGES: usize = 1_024;
/// Most problems reported with an assignment status.
pub const PROBLEMS: usize = 64;
/// Longest name, host name or other short text, bytes (RFC 1035 section 2.3.4 allows 255 for a name).
pub const TEXT_BYTES: usize = 255;
/// Largest certificate or certificate request, bytes.
pub const CERTIFICATE_BYTES: usize = 8_192;
/// Shortest check interval, ms. Emergency mode asks for 10 s (SRC-48); the laboratory for less.
pub const CHECK_INTERVAL_MS_MIN: u32 = 100;
/// Longest check interval, ms: 31 days.
pub const CHECK_INTERVAL_MS_MAX: u32 = 31 * 86_400_000;
/// Longest timeout of a check, ms (guess: a table walk over a satellite link).
pub const CHECK_TIMEOUT_MS_MAX: u32 = 300_000;
/// Longest time live results may be collected before they are sent, ms: an hour.
pub const FLUSH_INTERVAL_MS_MAX: u32 = 3_600_000;
/// Longest time an agent stays away because the collector said so, ms: an hour.
pub const WAIT_MS_MAX: u32 = 3_600_000;
/// Most capabilities in a hello (guess: there are seven).
pub const CAPABILITIES: usize = 64;
/// Longest name of a VRF device, bytes: `IFNAMSIZ` of Linux without the final zero.
pub const VRF_NAME_BYTES: usize = 15;
/// Shortest pass phrase of `SNMPv3`, bytes (RFC 3414 section 11.2).
pub const SNMP_PASSWORD_BYTES_MIN: usize = 8;
/// Most echo requests in one run.
pub const ICMP_PACKETS: u32 = 1_000;
/// Largest ICMP payload, bytes.
pub const ICMP_PAYLOAD_BYTES: u32 = 65_000;
/// Smallest ICMP payload, bytes: room for the nonce and sequence that tell our replies from others'.
pub const ICMP_PAYLOAD_BYTES_MIN: u32 = 16;
/// Most SNMP modules that an assignment brings along (guess: a network has a few kinds of special devices).
pub const ASSIGNMENT_SNMP_MODULES: usize = 32;
/// Longest text of an SNMP module, bytes: the largest built-in one has 8 KiB.
pub const SNMP_MODULE_BYTES: usize = 16 << 10;
/// Largest differentiated services code point: six bits (RFC 2474 section 3).
pub const DSCP_MAX: u32 = 63;
/// Most SNMP modules in one check.
pub const SNMP_MODULES: usize = 32;
/// Most expected answers of a DNS check (guess: round robin names have a handful).
pub const DNS_EXPECTED: usize = 64;
/// Most queries or requests of one run of a DNS or NTP check (guess: a resolver library gives up after two or three).
pub const TRIES: u32 = 10;
/// Smallest datagram that a DNS check may offer to take, bytes (RFC 6891 section 6.2.3).
pub const DNS_EDNS_BYTES_MIN: u32 = 512;
/// Most datagrams in one run of a UDP echo check.
pub const UDP_PACKETS: u32 = 1_000;
/// Smallest payload of a UDP echo, bytes: room for the nonce and sequence that tell our datagrams from others'.
pub const UDP_PAYLOAD_BYTES_MIN: u32 = 16;
/// Largest payload of a UDP echo, bytes.
pub const UDP_PAYLOAD_BYTES: u32 = 65_000;
/// Most redirects that an HTTP check follows (browsers give up after 20).
pub const HTTP_REDIRECTS: u32 = 10;
/// Largest body that an HTTP check may read, bytes.
pub const HTTP_BODY_BYTES: u32 = 16 << 20;
/// Most headers that an HTTP check expects (guess).
pub const HTTP_HEADERS: usize = 16;
/// Longest path of an HTTP check, bytes (guess).
pub const HTTP_PATH_BYTES: usize = 1_024;
/// Most trust anchors that a TLS or HTTP check brings along.
pub const TLS_ROOTS: usize = 16;
/// Most public keys that a TLS check allows (guess: the one in use and the next one, some times over).
pub const TLS_KEYS: usize = 16;
/// Most anchors of one family in an IPv6 check (guess: prefecture and region, each twice).
pub const IPV6_ANCHORS: usize = 16;
/// Most services in an IPv6 check (guess).
pub const IPV6_SERVICES: usize = 32;
/// Most approved routers of an access point (guess: a pair on each of a few segments).
pub const APPROVED_ROUTERS: usize = 64;
/// Most MAC addresses, link-local addresses or prefixes of one of them (guess: one for each interface).
pub const APPROVED_ROUTER_ITEMS: usize = 32;
/// Highest hop that a trace asks: time to live and hop limit are bytes, and no path of this network has more than a
/// dozen routers; what goes in circles is seen long before.
pub const PATH_HOPS: u32 = 64;
/// Most attempts at each hop of a trace.
pub const PATH_ATTEMPTS: u32 = 10;
/// Most hops that a trace asks at the same time.
pub const PATH_PARALLEL: u32 = 64;
/// Largest payload of a trace, bytes: fits into the smallest MTU of IPv6 (1,280) with every header.
pub const PATH_PAYLOAD_BYTES: u32 = 1_200;
/// Smallest payload of a trace, bytes: room for the token that tells our packets from others', as quoted by routers.
pub const PATH_PAYLOAD_BYTES_MIN: u32 = 16;
/// Lowest port that a flow may start from: below are those of services (RFC 6335 section 6).
pub const PATH_FLOW_PORT_MIN: u32 = 1_024;
/// Smallest path MTU that can be expected, bytes: every host takes so much (RFC 791 section 3.1).
pub const PATH_MTU_MIN: u32 = 576;
/// Largest path MTU that can be expected, bytes.
pub const PATH_MTU_MAX: u32 = 65_535;
/// Most pieces of evidence of a security event.
pub const EVIDENCE_PAIRS: usize = 32;
/// Longest name of a piece of evidence, bytes.
pub const EVIDENCE_KEY_BYTES: usize = 64;
/// Most bytes of evidence of a security event, names and values together (SEC-31).
pub const EVIDENCE_BYTES: usize = 8_192;
/// Largest import file that the admin socket accepts, bytes: 6,918 rows need about 2 MiB.
pub const IMPORT_BYTES: usize = 32 << 20;
