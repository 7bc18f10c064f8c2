//! Names of things: runs, steps, effects, trees.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

name!(
    /// One execution of a workflow: eight characters of lower-case Crockford base 32, for example `7f3k9m2q`.
    RunId
);
name!(
    /// A node of the plan, as named in the workflow (`implement`).
    StepId
);
name!(
    /// A git tree id (40 hex digits): the content of a workspace without ignored files.
    TreeId
);
name!(
    /// Names one effect for ever: `hash(run, step, iteration, attempt, ordinal, kind)`, 32 hex digits.
    ///
    /// The same intent has the same key after a crash, so a branch, a checkpoint or a commit made for it can be
    /// found again instead of made twice.
    EffectKey
);

impl EffectKey {
    /// Derives the key of one effect. `step` is empty for effects of the run itself.
    pub fn derive(run: &RunId, step: &str, iteration: u32, attempt: u32, ordinal: u32, kind: &str) -> Self {
        let text = format!("{run}\0{step}\0{iteration}\0{attempt}\0{ordinal}\0{kind}");
        Self(short_hash(text.as_bytes(), 32))
    }
}

impl RunId {
    /// Makes a run id from 40 random bits.
    pub fn from_bits(bits: u64) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let text = (0..8).map(|place| char::from(ALPHABET[(bits >> (place * 5)) as usize & 31])).collect();
        Self(text)
    }

    /// The run that takes this one's place where it is over and its job is begun again: always the same one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::from_bits(u64::from_str_radix(&short_hash(self.0.as_bytes(), 16), 16).unwrap_or_default())
    }

    /// The run of a job that was put back so often: another one each time.
    #[must_use]
    pub fn round(&self, times: u32) -> Self {
        if times == 0 { self.clone() } else { Self(format!("{}+{times}", self.0)).next() }
    }
}

/// The first `digits` hex digits (at most 64) of the SHA-256 of `bytes`.
pub fn short_hash(bytes: &[u8], digits: usize) -> String {
    let digest = Sha256::digest(bytes);
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.take(digits).filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}
