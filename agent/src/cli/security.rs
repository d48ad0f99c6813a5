//! `security`: what the security watch has learnt, and the events that are open.

use super::Failure;
use crate::clock::boot_id;
use crate::config::Config;
use crate::security::memory::Memory;

/// Prints what the running agent wrote down last.
#[expect(clippy::print_stdout, reason = "the command's own output")]
pub(super) fn show(config: &Config) -> Result<(), Failure> {
    let boot = boot_id().map_err(|error| Failure::other(&error))?;
    let memory = Memory::load(&config.state_dir, boot).map_err(|error| Failure::other(&error))?;
    let memory = memory.unwrap_or_default();
    let text = memory.text(boot).map_err(|error| Failure::other(&error))?;
    print!("{text}");
    Ok(())
}
