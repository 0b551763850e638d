//! Flags of importing: when, from which registries, and what streams are held to.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::parse::{interval, network, rate};
use crate::controller::agenda::Rules;
use crate::controller::import::Settings;
use crate::registry;
use crate::stream::types::ImportMode;

/// How image streams are imported.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Import")]
pub struct ImportArgs {
    /// How long after a scheduled tag was imported it is imported again; a tenth more or less by chance
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_IMPORT_INTERVAL", default_value = "15m", value_parser = interval)]
    import_interval: Duration,

    /// How many tags are imported on schedule in a minute at most
    #[arg(
        long,
        value_name = "N",
        env = "PINSTREAM_SCHEDULED_IMPORTS_PER_MINUTE",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    scheduled_imports_per_minute: u32,

    #[command(flatten)]
    mode: ImportModeArgs,

    /// How many tags of a repository become tags of a stream that names it as a whole
    #[arg(long, value_name = "N", env = "PINSTREAM_REPOSITORY_TAGS", default_value = "50")]
    repository_tags: usize,
}

/// What importing makes of an index.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Import")]
pub struct ImportModeArgs {
    /// What importing makes of an index of several platforms where a tag does not say: the index itself, or the image of
    /// one platform as OpenShift does
    #[arg(long, value_name = "MODE", env = "PINSTREAM_IMPORT_MODE", default_value = "PreserveOriginal")]
    import_mode: DefaultMode,
}

impl ImportModeArgs {
    /// The import mode of tags that do not say one.
    #[must_use]
    pub fn default_mode(self) -> ImportMode {
        match self.import_mode {
            DefaultMode::PreserveOriginal => ImportMode::PreserveOriginal,
            DefaultMode::Legacy => ImportMode::Legacy,
        }
    }
}

/// What importing makes of an index where a tag does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DefaultMode {
    /// The index and all its children.
    #[value(name = "PreserveOriginal")]
    PreserveOriginal,
    /// The image of one platform.
    #[value(name = "Legacy")]
    Legacy,
}

impl ImportArgs {
    /// How importing is done. `registry_host` is the host that serves the streams' images, if one does.
    #[must_use]
    pub fn settings(&self, registry_host: Option<String>) -> Settings {
        Settings {
            rules: Rules { interval: self.import_interval, scheduled_per_minute: self.scheduled_imports_per_minute },
            default_mode: self.mode.default_mode(),
            repository_tags_max: self.repository_tags,
            registry_host: registry_host.into(),
        }
    }
}

/// Whether the streams of a directory are imported.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Import")]
pub struct DirectoryImportArgs {
    /// Do not import: serve what the files say, and write nothing into the directory
    #[arg(long, env = "PINSTREAM_NO_IMPORT")]
    pub no_import: bool,

    /// How.
    #[command(flatten)]
    pub import: ImportArgs,

    /// From where.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl DirectoryImportArgs {
    /// What streams are held to when they are written.
    #[must_use]
    pub fn writes(&self) -> WriteArgs {
        WriteArgs { mode: self.import.mode, permitted: self.registry.permitted.clone() }
    }
}

/// How registries are asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// Further CAs to trust, PEM: FILE for all registries, HOST[:PORT]=FILE for one. Repeatable
    #[arg(long = "registry-ca", value_name = "[HOST=]FILE", env = "PINSTREAM_REGISTRY_CA", value_delimiter = ',')]
    cas: Vec<String>,

    #[command(flatten)]
    permitted: PermittedArgs,

    /// A network with registries although its addresses are blocked, such as 10.1.0.0/16; of the networks that have an
    /// address the smallest counts. Repeatable
    #[arg(
        long = "registry-allow-address",
        value_name = "CIDR",
        env = "PINSTREAM_REGISTRY_ALLOW_ADDRESS",
        value_delimiter = ',',
        value_parser = network
    )]
    allow_addresses: Vec<IpNet>,

    /// A network that no registry is asked in, such as the Pods' and Services' of the cluster. Link-local addresses and
    /// the metadata of clouds are blocked anyway, and on a cluster loopback addresses. Repeatable
    #[arg(
        long = "registry-block-address",
        value_name = "CIDR",
        env = "PINSTREAM_REGISTRY_BLOCK_ADDRESS",
        value_delimiter = ',',
        value_parser = network
    )]
    block_addresses: Vec<IpNet>,

    /// How many requests one registry gets at a time; 0 means no limit
    #[arg(
        long = "registry-concurrency",
        value_name = "N",
        env = "PINSTREAM_REGISTRY_CONCURRENCY",
        default_value = "8"
    )]
    concurrency: usize,

    /// How many requests one registry gets in a second; 0 means no limit
    #[arg(long = "registry-rate", value_name = "N", env = "PINSTREAM_REGISTRY_RATE", default_value = "20", value_parser = rate)]
    rate: f64,
}

/// Which registries are asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct PermittedArgs {
    /// A registry that may be asked: a host with * and ?, and with its port if that is not 443. Repeatable. Without it all
    /// may
    #[arg(
        long = "registry-allow",
        value_name = "HOST[:PORT]",
        env = "PINSTREAM_REGISTRY_ALLOW",
        value_delimiter = ','
    )]
    allow: Vec<String>,

    /// A registry that may not be asked, written likewise. Repeatable
    #[arg(
        long = "registry-block",
        value_name = "HOST[:PORT]",
        env = "PINSTREAM_REGISTRY_BLOCK",
        value_delimiter = ','
    )]
    block: Vec<String>,
}

impl PermittedArgs {
    /// Which registries may be asked.
    #[must_use]
    pub fn registries(&self) -> registry::Registries {
        registry::Registries { allow: self.allow.clone(), block: self.block.clone() }
    }
}

impl RegistryArgs {
    /// Which registries may be asked.
    #[must_use]
    pub fn registries(&self) -> registry::Registries {
        self.permitted.registries()
    }

    /// How registries are asked in a cluster, where none is on this machine.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn settings_in_cluster(&self) -> anyhow::Result<registry::Settings> {
        let settings = self.settings()?;
        Ok(registry::Settings { addresses: settings.addresses.without_this_machine(), ..settings })
    }

    /// How registries are asked.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn settings(&self) -> anyhow::Result<registry::Settings> {
        let read = |written: &String| {
            let (host, path) = match written.split_once('=') {
                Some((host, path)) => (Some(host.to_owned()), path),
                None => (None, written.as_str()),
            };
            let pem = fs::read(path).with_context(|| format!("the CA file {path} of --registry-ca cannot be read"))?;
            Ok((host, pem))
        };
        Ok(registry::Settings {
            extra_cas: self.cas.iter().map(read).collect::<anyhow::Result<_>>()?,
            registries: self.permitted.registries(),
            addresses: registry::Addresses::default().with(&self.allow_addresses, &self.block_addresses),
            concurrency: self.concurrency,
            rate: self.rate,
            ..registry::Settings::default()
        })
    }
}

/// What image streams are held to when they are written.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// What importing makes of an index.
    #[command(flatten)]
    pub mode: ImportModeArgs,

    /// Which registries images may come from.
    #[command(flatten)]
    pub permitted: PermittedArgs,
}
