//! Recordings of whole runs: their format, their secrets, and how two of them are compared. Pure: text in, values out.
//!
//! A cassette of format 2 is JSON lines:
//!
//! ```json
//! {"codeforge_cassette":2,"version":"0.1.0","run":"7f3k9m2q","workflow":"fix","commit":"…","tree":"…"}
//! {"base_file":{"path":"notes.txt","mode":33188,"content":{"text":"mine\n"}}}
//! {"row":{"seq":1,"at_ms":…,"body":{…}}}
//! {"text":"9f…","body":"You are the coder …"}
//! {"request":{"place":{…},"messages":[["system","9f…"],["user","3c…"]],"tools":"77…"}}
//! {"end":{"rows":41,"requests":6,"texts":12}}
//! ```
//!
//! Rows are the journal's. A request stands after the row that intends it, each of its texts once, before the first
//! request that needs it: a conversation of n turns takes the room of n turns. Format 1 is a model's answers alone, and
//! played by `adapter::cassette`.

mod compare;
mod kept;
mod normal;
mod read;
mod scrub;
mod story;
mod words;
mod write;

pub use compare::{Side, compare};
pub use kept::{Kept, Request, Role};
pub use normal::{output, prompt};
pub use read::{Recording, is_whole_run, read};
pub use scrub::Scrub;
pub use write::{Parts, write};

use crate::model::recording::RunOptions;
use serde::{Deserialize, Serialize};

/// The format's version.
pub const VERSION: u32 = 2;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub codeforge_cassette: u32,
    /// The engine that recorded.
    pub version: String,
    /// The run.
    pub run: String,
    /// Its workflow.
    pub workflow: String,
    /// The commit that it started from.
    pub commit: Option<String>,
    /// The tree that it started from, with files that were not committed.
    pub tree: String,
    /// What was asked for on the command line.
    #[serde(default)]
    pub options: RunOptions,
}
