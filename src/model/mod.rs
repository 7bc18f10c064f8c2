//! Plain values that every stage speaks. No I/O, no clock, no vendor types.
//!
//! The values follow the flow of the house: a document becomes a [`plan::Plan`], a plan becomes a run whose
//! journal is a list of [`journal::Input`]s, its work is a list of [`journal::Effect`]s, and what it made is
//! a [`delivery::Delivered`].

pub mod account;
pub mod artifact;
pub mod backend;
pub mod budget;
pub mod catalog;
pub mod chat;
pub mod ci;
pub mod coverage;
pub mod delivery;
pub mod diagnostic;
pub mod event;
pub mod exec;
pub mod experience;
pub mod finding;
pub mod forge;
pub mod history;
pub mod id;
pub mod ignore;
pub mod job;
pub mod journal;
pub mod ledger;
pub mod patch;
pub mod places;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod quality;
pub mod recording;
pub mod serve;
pub mod tool;
pub mod usage;
