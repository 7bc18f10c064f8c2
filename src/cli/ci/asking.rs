//! What only the forge can say: who may do what, and where a change's head is.

use super::Ci;
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::model::account::Ending;
use crate::trigger::Start;

/// Whether the person who gave the command may. Anything but a clear yes is no.
///
/// # Errors
/// They may not, or nobody can be asked.
pub(super) async fn access(_ci: &Ci, start: &Start, _cx: &Context<'_>) -> Result<(), CliError> {
    let Some(needs) = &start.access else { return Ok(()) };
    Err(CliError::new(
        Ending::Denied,
        format!("`{}` may not start `{}`: nobody can be asked what they may do here", needs.user, start.workflow),
    )
    .hint("give the job a token in CODEFORGE_FORGE_TOKEN (the action's input `github-token`)"))
}
