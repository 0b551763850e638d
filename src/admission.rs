//! The admission webhook: reviews in, patches out.
//!
//! From snapshot to answer there is no await, no lock and no I/O.

mod before;
pub mod decide;
pub mod handler;
pub mod judge;
pub mod review;
pub mod streams;
