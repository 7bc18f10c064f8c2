//! Text that crosses a border of trust: sanitised, fenced, redacted.
//!
//! | text comes from | goes to | passes through |
//! |---|---|---|
//! | a process, a model, a file | a log, a terminal, a journal | [`clean`] or a streaming [`Cleaner`], [`cap`] or [`Capped`] |
//! | anyone but the operator | a prompt | [`fence`] |
//! | anything | standard output in CI | [`inert_ci`] |
//! | anything | a delivery, a cassette | [`contains_secret`], [`redact`] or a [`Redactor`], [`invisible`] |
//! | a title | a branch name | [`slug`] |

mod bound;
mod clean;
mod fence;
mod names;
mod secret;

pub use bound::{Capped, cap};
pub use clean::{Cleaner, clean, invisible};
pub use fence::{fence, inert_ci};
pub use names::slug;
pub use secret::{Redactor, contains_secret, mask, redact};
