//! Workflow and inputs → plan.
