//! Text that crosses a border of trust: sanitised, fenced, redacted.
//!
//! | text comes from | goes to | passes through |
//! |---|---|---|
//! | a process, a model, a file | a log, a terminal, a journal | [`clean`] or a streaming [`Cleaner`], [`cap`] or [`Capped`] |
//! | anyone but the operator | a prompt | [`fence`] |
//! | files, differences | a reader of code, model or person | [`visible`], [`hidden`] |
//! | anything | standard output in CI | [`inert_ci`] |
//! | anything | a delivery, a cassette | [`contains_secret`], [`redact`] or a [`Redactor`], [`invisible`] |
//! | a title | a branch name | [`slug`] |
//! | anything | a comment, a description (Markdown) | [`neutral`] |
//! | anything | a title, a commit message | [`neutral_plain`] |

mod bound;
mod clean;
mod fence;
mod marker;
mod names;
mod neutral;
mod person;
mod quoted;
mod secret;

pub use bound::{Capped, cap};
pub use clean::{Cleaner, clean, hidden, invisible, visible};
pub use fence::{fence, inert_ci};
pub use marker::{hex, hidden_json, hidden_line, is_marked, marker, remembered, remembering, unhex};
pub use names::slug;
pub use neutral::{Hosts, neutral, neutral_plain};
pub use person::{is_account, is_mail, is_person};
pub use quoted::{header_name, unquote};
pub use secret::{Redactor, contains_secret, mask, redact};
