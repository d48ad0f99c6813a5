//! SNMP modules of the operator: data files that agents get with their assignments (docs/snmp.md).
//!
//! In a plan they are sections `[[snmp_module]]` with `name` and `text`; `plan apply` makes those out of the files of the
//! folder `snmp-modules` beside the plan. On the wire a module is known by name and content, so that a check whose module
//! changes becomes another check.

use std::path::Path;

use extranet_agent::config::reader::Reader;
use extranet_agent::identity::ticket::hex;
use extranet_agent::probe::snmp::module::{Module, NAMES};
use extranet_proto::wire::check::Probe;
use extranet_proto::{limits, wire};
use ring::digest::{SHA256, digest};

/// Bytes of the content's digest in a name on the wire.
const DIGEST_BYTES: usize = 8;

/// A section `[[snmp_module]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanModule {
    /// As checks and targets name it.
    pub name: String,
    /// TOML.
    pub text: String,
}

impl PlanModule {
    /// Its name on the wire.
    fn content_name(&self) -> String {
        let digest = digest(&SHA256, self.text.as_bytes());
        let digits = hex(&digest.as_ref()[..DIGEST_BYTES]);
        format!("{}.{digits}", self.name)
    }
}

/// Whether a text can be the name of a module.
pub fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=32).contains(&name.len()) && name.chars().all(word)
}

pub(super) fn section(reader: &mut Reader<'_>) -> PlanModule {
    let name = reader.required_string("name");
    if NAMES.contains(&name.as_str()) {
        let problem = format!("'{name}' is built into every agent: use another name");
        reader.problem("name", problem);
    } else if !is_name(&name) && !name.is_empty() {
        reader.problem("name", "use 1 to 32 ASCII letters, digits, '-' and '_'");
    }
    let text = reader.required_string("text");
    if text.len() > limits::SNMP_MODULE_BYTES {
        let most = limits::SNMP_MODULE_BYTES;
        reader.problem("text", format!("is longer than {most} bytes"));
    } else if let Err(problems) = Module::parse(&name, &text) {
        reader.problem("text", problems.to_string());
    }
    PlanModule { name, text }
}

/// Replaces the names of the plan's modules in the checks by those on the wire, and gives back what the agent needs.
/// Names that nobody knows are reported, and left out so that the others are read.
pub(super) fn resolve<'c>(
    known: &[PlanModule],
    probes: impl Iterator<Item = &'c mut Probe>,
    problems: &mut Vec<String>,
) -> Vec<wire::SnmpModule> {
    let mut needed: Vec<wire::SnmpModule> = Vec::new();
    for probe in probes {
        let Probe::Snmp(snmp) = probe else {
            continue;
        };
        snmp.modules.retain_mut(|name| {
            if NAMES.contains(&name.as_str()) {
                return true;
            }
            let Some(module) = known.iter().find(|module| module.name == *name) else {
                let problem = format!(
                    "SNMP module '{name}' is neither built in nor in the plan's snmp-modules"
                );
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
                return false;
            };
            *name = module.content_name();
            if !needed.iter().any(|one| one.name == *name) {
                needed.push(wire::SnmpModule {
                    name: name.clone(),
                    text: module.text.clone(),
                });
            }
            true
        });
    }
    needed.sort_by(|one, other| one.name.cmp(&other.name));
    needed
}

/// A plan with the files of a folder as sections behind it. The name of a module is that of its file without `.toml`.
pub fn with_folder(plan: &str, folder: &Path) -> std::io::Result<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let mut whole = plan.to_owned();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path)?;
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let section = format!(
            "\n[[snmp_module]]\nname = {}\ntext = {}\n",
            quoted(&name),
            quoted(&text)
        );
        whole.push_str(&section);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;

    const CHECK: &str =
        "[[plan]]\nname = 'p'\n[[plan.check]]\nname = 's'\nprobe = 'snmp'\ntarget = 'router'\n";
    const TEXT: &str =
        "[[scalar]]\nname = 'acmeFan'\noid = '1.3.6.1.4.1.99999.1.0'\ntype = 'gauge'\n";

    fn probe(modules: &[&str]) -> Probe {
        Probe::Snmp(wire::SnmpProbe {
            modules: modules.iter().map(ToString::to_string).collect(),
            ..wire::SnmpProbe::default()
        })
    }

    #[test]
    fn a_folder_of_files_becomes_modules_of_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("acme.toml"),
            format!("# 'quotes' \"too\"\n{TEXT}"),
        )
        .unwrap();
        std::fs::write(folder.path().join("README"), "no module").unwrap();
        let text = with_folder(
            &format!("{CHECK}modules = ['system', 'acme']\n"),
            folder.path(),
        )
        .unwrap();
        let plan = Plan::parse("plan", &text).unwrap();
        assert_eq!(plan.snmp_modules.len(), 1);
        let mut problems = Vec::new();
        let mut probes = [probe(&["system", "acme"]), probe(&["acme", "unknown"])];
        let needed = resolve(&plan.snmp_modules, probes.iter_mut(), &mut problems);
        assert_eq!(needed.len(), 1);
        assert!(needed[0].name.starts_with("acme.") && needed[0].name.len() == 5 + 16);
        assert_eq!(probes[0], probe(&["system", &needed[0].name]));
        assert_eq!(probes[1], probe(&[&needed[0].name]));
        assert_eq!(
            problems,
            ["SNMP module 'unknown' is neither built in nor in the plan's snmp-modules"]
        );
    }

    #[test]
    fn mistakes_in_modules_are_mistakes_of_the_plan() {
        let section = |name: &str, text: &str| {
            format!("{CHECK}\n[[snmp_module]]\nname = '{name}'\ntext = \"\"\"\n{text}\n\"\"\"\n")
        };
        for (text, expected) in [
            (section("if_mib", TEXT), "is built into every agent"),
            (section("a b", TEXT), "use 1 to 32"),
            (
                section("acme", "[[scalar]]\nname = 'x'"),
                "scalar[0].oid: is missing",
            ),
            (
                format!("{CHECK}modules = ['nobody']\n"),
                "unknown module 'nobody'",
            ),
        ] {
            let problems = Plan::parse("plan", &text).unwrap_err().to_string();
            assert!(problems.contains(expected), "{expected} / {problems}");
        }
    }
}
