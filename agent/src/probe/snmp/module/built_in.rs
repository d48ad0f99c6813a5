//! The modules that every agent has. A module more is a file more in `agent/snmp-modules` and a line here; one of an
//! operator needs neither (docs/snmp.md).

use super::Module;

macro_rules! modules {
    ($($name:literal,)+) => {
        /// Names of the built-in modules.
        pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

        const TEXTS: [&str; NAMES.len()] = [
            $(include_str!(concat!("../../../../snmp-modules/", $name, ".toml")),)+
        ];
    };
}

modules! {
    "bridge",
    "disman_ping",
    "entity",
    "entity_sensor",
    "ether_like",
    "h3c_entity",
    "h3c_nqa",
    "h3c_transceiver",
    "host_resources",
    "huawei_entity",
    "huawei_nqa",
    "huawei_optical",
    "if_mib",
    "ip_addresses",
    "lldp",
    "snmp_traps",
    "system",
    "ups_mib",
}

/// The text of a built-in module.
pub fn text_of(name: &str) -> Option<&'static str> {
    let at = NAMES.iter().position(|known| *known == name)?;
    TEXTS.get(at).copied()
}

/// A built-in module.
///
/// # Panics
/// Never: a test reads all of them.
pub(in crate::probe::snmp) fn built_in(name: &str) -> Option<Module> {
    let text = text_of(name)?;
    Some(Module::parse(name, text).expect("a test reads all built-in modules"))
}
