//! Importing without a cluster: the client of registries against scripted ones, and the importer in simulated time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod client_tests;
mod credential_tests;
mod fairness_tests;
mod fault_tests;
mod memory;
mod mirror;

mod pull_fault_tests;
mod pull_passed_tests;
mod pull_tenancy_tests;
mod pull_tests;
mod scripted;
mod simulation_tests;
mod tenant_tests;
mod tls_tests;
mod upstream;
