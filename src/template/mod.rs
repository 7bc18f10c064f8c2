//! Rendering of prompts, bodies and expressions: strict and bounded.
