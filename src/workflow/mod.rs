//! Text → checked workflow.
