//! Models over real HTTP: a scripted provider and all its faults.

mod common;
