//! How much is asked of a device at a time, learnt from how it answers.
//!
//! - *Requests at a time*: two at first, one more with each answer, up to [`REQUESTS_MAX`]; a lost request takes half of
//!   them away. Over a link of 620 ms this is what makes a table of 200 rows take seconds instead of minutes, and a small
//!   router on the same wire, which answers before the next request is ready, hardly notices.
//! - *Objects in a request*: as many as fit [`ANSWER_BYTES`] at the size that objects had so far; `tooBig` halves them for
//!   as long as the device is remembered.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Most requests that wait for one device. Eight took 5.6 s for 2,040 values over 620 ms; more may overrun the receive
/// buffer of a small router (guess).
pub(super) const REQUESTS_MAX: usize = 8;
const REQUESTS_FIRST: usize = 2;
/// Objects in a request before anything is known of their size.
const OBJECTS_FIRST: usize = 30;
/// Most objects in a request: what snmpd and small routers take without complaint (guess).
pub(super) const OBJECTS_MAX: usize = 64;
/// What an answer should stay below, bytes of UDP payload: a frame of 1,500 without fragments, less headers of SNMP.
const ANSWER_BYTES: u64 = 1_350;

/// What one device stands.
#[derive(Debug)]
pub(super) struct Window {
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: usize,
    /// Never more objects than this in a request.
    objects_max: usize,
    bytes: u64,
    objects: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            permits: Semaphore::new(REQUESTS_FIRST),
            state: Mutex::new(State {
                requests: REQUESTS_FIRST,
                objects_max: OBJECTS_MAX,
                bytes: 0,
                objects: 0,
            }),
        }
    }

    /// Waits until a request may be sent.
    pub(super) async fn open(&self) -> Option<SemaphorePermit<'_>> {
        // `None` only if somebody closed it, which nobody does.
        self.permits.acquire().await.ok()
    }

    /// How many objects to ask for in one request.
    pub(super) fn objects(&self) -> usize {
        let state = self.state();
        let Some(size) = state
            .bytes
            .checked_div(state.objects)
            .filter(|size| *size > 0)
        else {
            return OBJECTS_FIRST.min(state.objects_max);
        };
        let fit = usize::try_from(ANSWER_BYTES / size).unwrap_or(OBJECTS_MAX);
        fit.clamp(1, state.objects_max)
    }

    /// An answer came at the first attempt, with so many objects in so many bytes.
    pub(super) fn answered(&self, objects: usize, bytes: u64) {
        let mut state = self.state();
        if state.requests < REQUESTS_MAX {
            state.requests += 1;
            self.permits.add_permits(1);
        }
        if objects > 0 && bytes > 0 {
            // Old sizes fade, so that a table of long names does not decide about one of counters for ever.
            if state.objects > 1_000 {
                state.objects /= 2;
                state.bytes /= 2;
            }
            state.objects += objects as u64;
            state.bytes += bytes;
        }
    }

    /// A request had to be repeated.
    pub(super) fn lost(&self) {
        let mut state = self.state();
        let taken = self.permits.forget_permits(state.requests / 2);
        state.requests -= taken;
    }

    /// The device refused to answer so much at once.
    pub(super) fn too_big(&self, asked: usize) {
        let mut state = self.state();
        state.objects_max = state.objects_max.min((asked / 2).max(1));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_grow_with_answers_and_shrink_with_losses() {
        let window = Window::new();
        assert_eq!(window.permits.available_permits(), 2);
        for _ in 0..20 {
            window.answered(10, 200);
        }
        assert_eq!(window.permits.available_permits(), REQUESTS_MAX);
        window.lost();
        assert_eq!(window.permits.available_permits(), 4);
        for _ in 0..5 {
            window.lost();
        }
        assert_eq!(window.permits.available_permits(), 1, "never none at all");
    }

    #[test]
    fn objects_fit_a_frame_and_what_the_device_accepts() {
        let window = Window::new();
        assert_eq!(window.objects(), OBJECTS_FIRST);
        window.answered(40, 800);
        assert_eq!(window.objects(), OBJECTS_MAX);
        window.answered(400, 40_000);
        assert!(window.objects() < 20, "long texts");
        window.too_big(12);
        assert_eq!(window.objects(), 6);
        window.too_big(1);
        assert_eq!(window.objects(), 1);
    }
}
