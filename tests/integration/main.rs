//! Everything that is tested from outside: the running binary over real HTTPS, the files of the repository.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]
#![expect(clippy::float_cmp, reason = "metrics are counts, which doubles hold exactly")]

mod addresses;
mod audit;
mod certificates;
mod chart;
mod clock;
mod command;
mod conformance;
mod descriptors;
mod documentation;
mod floods;
mod full;
mod http;
mod local;
mod metrics;
mod monitoring;
mod namespace;
mod policy;
mod pulling;
mod reading;
mod registry_gc;
mod releasing;
mod resolving;
mod room;
mod shell;
mod shutdown;
mod stream_admission;
mod streams;
mod support;
mod upstream;
mod vanishing;
mod walls;
mod write_commands;
mod writes;
