//! The collector as a whole, in one process: real TLS, real log, real catalogue; agents are played by the tests.

mod command_line;
mod disk;
mod enrolment;
mod exchange;
mod pages;
#[expect(clippy::unwrap_used, reason = "a test's helper may fail the test")]
mod place;
mod province;
