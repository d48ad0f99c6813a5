//! The one question to the kernel that no safe wrapper asks: is the system clock synchronised?

use nix::libc;

/// Whether the kernel's clock discipline (adjtimex, read only) does not carry `STA_UNSYNC`. "No" where it cannot be
/// asked.
#[expect(
    unsafe_code,
    reason = "adjtimex(2) has no safe wrapper in nix; the struct is plain integers and outlives the call"
)]
pub(super) fn wall_clock_synchronised() -> bool {
    // SAFETY: `timex` consists of integers, for which all zeroes is a valid value; with `modes` 0 the call only
    // writes into the struct, which it does not keep.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (state, timex.status)
    };
    state != -1 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}
