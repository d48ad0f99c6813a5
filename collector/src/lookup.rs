//! Reads of the catalogue from asynchronous code: on a thread that may block.

use tokio::task::spawn_blocking;

use crate::store::{Store, StoreError};

/// Runs a query where it may wait for the disk.
pub(crate) async fn read<T: Send + 'static>(
    store: &Store,
    query: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = store.clone();
    match spawn_blocking(move || query(&store)).await {
        Ok(answer) => answer,
        // The runtime is going away: nobody waits for the answer any more.
        Err(_) => Err(StoreError::Stopped),
    }
}
