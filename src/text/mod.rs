//! Text that crosses a border of trust: sanitised, fenced, redacted.
