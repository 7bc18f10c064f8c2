//! Fetching with a forge's token.

use crate::port::checkout::{Checkout, Fetch, FetchError, Want};
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

/// Makes sure that a commit is in a checkout. A forge that gives no bare commit gives it under the ref that is beside it.
///
/// # Errors
/// [`FetchError`].
pub async fn have(
    checkout: &Arc<dyn Checkout>,
    order: &Fetch,
    forge: Option<&dyn Forge>,
    (commit, git_ref): (&str, Option<&str>),
    keep_as: &str,
) -> Result<(), FetchError> {
    if checkout.has(commit) {
        return Ok(());
    }
    let mut last = FetchError::NoSuch(format!("the commit {commit} is not there"));
    for what in [Some(commit), git_ref].into_iter().flatten() {
        let wants = vec![Want { what: what.to_owned(), keep_as: keep_as.to_owned() }];
        match fetch(checkout, &Fetch { wants, ..order.clone() }, forge).await {
            Ok(()) if checkout.has(commit) => return Ok(()),
            // The ref has moved on: what it leads to now is not what is asked for.
            Ok(()) => last = FetchError::NoSuch(format!("the commit {commit} is not there any more")),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn once(checkout: &Arc<dyn Checkout>, order: Fetch) -> Result<(), FetchError> {
    let checkout = Arc::clone(checkout);
    let fetched = tokio::task::spawn_blocking(move || checkout.fetch(&order)).await;
    fetched.unwrap_or_else(|error| Err(FetchError::Unreachable(format!("an internal error: {error}"))))
}
