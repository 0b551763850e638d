//! Flags of how a tag is imported and used. Pure.

use clap::{Args, ValueEnum};

use crate::stream::types::{ImportMode, ImportPolicy, ReferencePolicy, ReferencePolicyType};

/// How a new tag is imported and used.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Tag")]
pub(super) struct PolicyArgs {
    /// Import the image again and again
    #[arg(long)]
    pub scheduled: bool,

    /// Accept plain HTTP and certificates that nobody vouches for
    #[arg(long)]
    pub insecure: bool,

    /// Do not import: users of the tag get its source as it is written
    #[arg(long)]
    pub reference: bool,

    /// From where users of the tag pull: source, as imported, or local, the registry that serves the streams
    #[arg(long, value_name = "POLICY", ignore_case = true, hide_possible_values = true)]
    pub reference_policy: Option<Policy>,

    /// What to make of an index of several platforms: PreserveOriginal keeps it, Legacy picks one platform
    #[arg(long, value_name = "MODE", ignore_case = true, hide_possible_values = true)]
    pub import_mode: Option<Mode>,
}

impl PolicyArgs {
    pub(super) fn import(self) -> ImportPolicy {
        let import_mode = self.import_mode.map_or(ImportMode::Unset, Mode::import_mode);
        ImportPolicy { insecure: self.insecure, scheduled: self.scheduled, import_mode }
    }

    pub(super) fn pull(self) -> ReferencePolicy {
        self.reference_policy.map_or_else(ReferencePolicy::default, Policy::reference_policy)
    }

    /// Flags were given that only an image of a registry can have.
    pub(super) fn is_about_importing(self) -> bool {
        self.scheduled || self.insecure || self.import_mode.is_some()
    }
}

/// From where users of a tag pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Policy {
    Source,
    Local,
}

impl Policy {
    pub(super) fn reference_policy(self) -> ReferencePolicy {
        let kind = match self {
            Self::Source => ReferencePolicyType::Source,
            Self::Local => ReferencePolicyType::Local,
        };
        ReferencePolicy { kind }
    }
}

/// What is made of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    #[value(name = "PreserveOriginal")]
    PreserveOriginal,
    #[value(name = "Legacy")]
    Legacy,
}

impl Mode {
    pub(super) fn import_mode(self) -> ImportMode {
        match self {
            Self::PreserveOriginal => ImportMode::PreserveOriginal,
            Self::Legacy => ImportMode::Legacy,
        }
    }
}
