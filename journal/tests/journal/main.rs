//! Tests of the journal from outside: its ordinary life, random operations against a model, damage at every byte,
//! kill -9 and a full disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod basic;
mod damage;
mod full_disk;
mod kill;
mod model;
mod rig;
