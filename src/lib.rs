//! Image streams for any Kubernetes: short names in, pinned digests out.
pub mod admission;
pub mod index;
pub mod reference;
pub mod stream;
pub mod workload;
pub mod store;
