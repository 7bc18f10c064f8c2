//! Drives runs: performs effects, feeds their results back, reconciles after a crash.
