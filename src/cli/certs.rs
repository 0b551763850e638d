//! `pinstream certs`: a CA and a server certificate for any names.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use crate::server::development::{self, CA_FILE, DAYS, NAMES};

/// Make a CA and a server certificate for any names
///
/// Writes ca.crt, tls.crt and tls.key. The CA signs this one certificate; its key is not kept.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream certs
  pinstream certs --out certs/web webhook.demo.svc 10.0.0.7
  pinstream serve --streams DIR --tls-cert certs/web/tls.crt --tls-key certs/web/tls.key")]
pub(super) struct Certs {
    /// DNS names and IP addresses that the server is reached by
    #[arg(value_name = "NAME", default_values = NAMES)]
    names: Vec<String>,

    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "certs/dev")]
    out: PathBuf,

    /// For how many days they are good
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Overwrite certificates that are there
    #[arg(long)]
    force: bool,
}

impl Certs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if !self.force {
            development::expect_none(&self.out)?;
        }
        let files = development::make(&self.names, self.days, Timestamp::now())?.write(&self.out)?;
        let expires = files.load()?.not_after;
        let paths = [self.out.join(CA_FILE), files.certificate, files.key];
        // Whoever reads this may have stopped to; the files are there all the same.
        let _ = paths.iter().try_for_each(|path| writeln!(std::io::stdout(), "{}", path.display()));
        eprintln!("A certificate for {}, good until {expires}. Clients are to trust {CA_FILE}.", self.names.join(", "));
        Ok(())
    }
}
