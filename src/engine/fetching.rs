//! Fetching with a forge's token.

use crate::port::checkout::{Checkout, Fetch, FetchError};
use crate::port::forge::{Forge, ForgeError};
use std::sync::Arc;

/// Fetches into a checkout. With a forge: by its token, and once more with the next one where that was refused. Without
/// one the order's own login counts.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(checkout: &Arc<dyn Checkout>, order: &Fetch, forge: Option<&dyn Forge>) -> Result<(), FetchError> {
    let Some(remote) = forge.map(|forge| forge.remote()) else { return once(checkout, order.clone()).await };
    let mut again = false;
    loop {
        let login = remote.login().await.map_err(|error| match error {
            ForgeError::Refused { .. } => FetchError::Refused(error.to_string()),
            _ => FetchError::Unreachable(error.to_string()),
        })?;
        let token = login.as_ref().map(|login| login.token.clone());
        let login = login.map(|login| (login.user, login.token));
        match (once(checkout, Fetch { login, ..order.clone() }).await, token) {
            (Err(FetchError::Refused(_)), Some(token)) if !again && remote.renew(&token).await => again = true,
            (fetched, _) => return fetched,
        }
    }
}

async fn once(checkout: &Arc<dyn Checkout>, order: Fetch) -> Result<(), FetchError> {
    let checkout = Arc::clone(checkout);
    let fetched = tokio::task::spawn_blocking(move || checkout.fetch(&order)).await;
    fetched.unwrap_or_else(|error| Err(FetchError::Unreachable(format!("an internal error: {error}"))))
}
