//! Any text as a ticket.
#![no_main]

use extranet_agent::identity::ticket::Ticket;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            let again = ticket.to_text();
            assert!(again.eq_ignore_ascii_case(text.trim()));
            assert_eq!(again.parse(), Ok(ticket.clone()), "written and read");
            let shown = format!("Ticket({}, <secret>)", ticket.ap_id);
            assert_eq!(format!("{ticket:?}"), shown);
        }
        Err(error) => {
            let _text = error.to_string();
        }
    }
});
