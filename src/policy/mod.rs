//! May this actor trigger, may this tool call run?

/// Proof that a policy approved a call. Only this room can make one.
#[derive(Debug, Clone)]
pub struct Approved {
    ruling: crate::model::tool::Ruling,
}

impl Approved {
    /// The ruling that approved it.
    pub fn ruling(&self) -> &crate::model::tool::Ruling {
        &self.ruling
    }
}
