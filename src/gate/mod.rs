//! Check results → verdict, and what a verdict does.
