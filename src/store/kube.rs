//! The cluster store: image streams of the Kubernetes API, listed once and watched from then on.
//!
//! The only place that speaks to an API server about streams and namespaces. Each object is reduced as it arrives, so memory holds no
//! objects; one that cannot be read is named in the log and passed over. `home` writes streams and `refusals` events; all
//! else only reads.

mod catalogue;
mod client;
mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod garbage;
mod home;
mod keyrings;
mod namespaces;
mod object;
mod objects;
mod patience;
mod pods;
mod published;
mod refusals;
mod review;
mod table;
mod watch;
mod workloads;

pub use client::{Access, ConnectError, answer, causes, connect};
pub use feed::Feed;
pub use garbage::{collect_images, keep_clean};
pub use home::ClusterHome;
pub use namespaces::LevelFeed;
pub use object::Resource;
pub use patience::patience;
pub use pods::{PodChange, PodFeed, RunningPod};
pub use published::Published;
pub use refusals::{Refused, record};
pub use review::{ClusterReviewer, Identity, ReviewError};
pub use watch::{Preference, SILENCE_LIMIT, Watched, is_openshift};
