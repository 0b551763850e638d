//! A webhook of others, by its URL.

use std::path::PathBuf;
use std::str::FromStr;

use axum::http::Uri;

use crate::Error;
use crate::client::{Client, Via};
use crate::payloads::Payload;

/// A webhook that runs already.
pub struct Peer {
    pub name: String,
    pub url: String,
    ca: PathBuf,
    /// Whose certificate it has.
    host: String,
}

impl FromStr for Peer {
    type Err = Error;

    /// `NAME=URL,ca=FILE`, and `,host=HOST` if its certificate is not that of the URL's host.
    fn from_str(written: &str) -> Result<Self, Error> {
        let usage = || format!("--peer {written}: write NAME=URL,ca=FILE or NAME=URL,ca=FILE,host=HOST");
        let (name, rest) = written.split_once('=').ok_or_else(usage)?;
        let (url, rest) = rest.split_once(",ca=").ok_or_else(usage)?;
        let (ca, host) = match rest.split_once(",host=") {
            Some((ca, host)) => (ca, host.to_owned()),
            None => (rest, url.parse::<Uri>()?.host().ok_or_else(usage)?.to_owned()),
        };
        Ok(Self { name: name.to_owned(), url: url.to_owned(), ca: ca.into(), host })
    }
}

impl Peer {
    /// Who asks it, over HTTP/2 if it has that.
    pub fn client(&self) -> Result<Client, Error> {
        Client::new(Via::Either, &self.ca, &self.host)
    }
}

/// What a peer makes of the images of a review: in the registry each is the one of that digest.
pub fn made_of(payload: &Payload, answer: &[u8], digest: &str) -> String {
    match payload.images_after(answer) {
        Ok(images) => {
            let pinned = images.iter().filter(|image| image.ends_with(&format!("@{digest}"))).count();
            format!("{pinned} of {} images pinned", images.len())
        }
        Err(error) => format!("not answered as it should be ({error})"),
    }
}
