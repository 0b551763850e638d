//! Where images stand in a Kubernetes object: which kinds have a pod template, and which slots it has. Pure.

pub mod kinds;
pub mod slots;

pub use kinds::{Kind, Kinds};
pub use slots::{List, POLICY_EXCEPT, Slot, Workload};
