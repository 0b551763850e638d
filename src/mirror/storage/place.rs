//! Where blobs are kept: a directory or a bucket, written as a path or a URL. Secrets of a URL are not printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use reqwest::Url;

use super::StorageError;

/// Schemes of the object stores that are known.
const BUCKETS: &[&str] = &["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"];
/// A blob takes as long as its client reads it; silence is what is limited.
const PATIENCE: &[(&str, &str)] = &[("timeout", "24h"), ("read_timeout", "60s")];
/// What the names of options of object stores begin with.
const OPTIONS: &[&str] = &["AWS_", "GOOGLE_", "AZURE_"];

/// Where blobs are kept, and how much of them.
#[derive(Clone)]
pub struct Place {
    kind: Kind,
    options: Vec<(String, String)>,
    /// Folder for what is being downloaded. A directory has its own.
    pub spool: Option<PathBuf>,
    /// How many bytes a directory may keep.
    pub budget: Option<u64>,
    /// What current tags need may be taken out too, if there is no other room.
    pub evict_needed: bool,
}

#[derive(Clone)]
pub(super) enum Kind {
    Directory(PathBuf),
    Bucket(Url),
}

impl Place {
    /// Reads a path or a URL. Of `environment`, the variables of object stores are options: `AWS_ENDPOINT_URL` and the like.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(written: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, StorageError> {
        let is_option = |name: &str| OPTIONS.iter().any(|prefix| name.starts_with(prefix));
        let options = environment.into_iter().filter(|(name, _)| is_option(name)).collect();
        Ok(Self { kind: kind(written)?, options, spool: None, budget: None, evict_needed: false })
    }

    /// Adds an option of the object store, which goes before those of the environment.
    #[must_use]
    pub fn with_option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The client of a bucket, and where in it blobs are.
    pub(super) fn bucket(&self, url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), StorageError> {
        let failed = |error: object_store::Error| StorageError::Open { place: self.to_string(), reason: error.into() };
        let patience = PATIENCE.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let options = patience.chain(self.options.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let (store, root) = object_store::parse_url_opts(url, options).map_err(failed)?;
        Ok((store.into(), root))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Directory(path) => path.display().fmt(f),
            Kind::Bucket(url) => f.write_str(&public(url)),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self}, budget {:?}, evict_needed {})", self.budget, self.evict_needed)
    }
}

fn kind(written: &str) -> Result<Kind, StorageError> {
    let wrong = |reason: String| StorageError::Place { written: hide(written), reason };
    if written.is_empty() {
        return Err(wrong("it is empty; name a directory or a URL such as s3://bucket/prefix".to_owned()));
    }
    if !written.contains("://") {
        return Ok(Kind::Directory(PathBuf::from(written)));
    }
    let url = Url::parse(written).map_err(|error| wrong(error.to_string()))?;
    if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| wrong("a path behind file:// begins with a slash".to_owned()))?;
        return Ok(Kind::Directory(path));
    }
    if !BUCKETS.contains(&url.scheme()) {
        return Err(wrong(format!(
            "{} is not known; use a directory, file://, s3://, gs:// or az://, and for a server that speaks S3 s3:// with its \
             endpoint",
            url.scheme()
        )));
    }
    if url.host_str().unwrap_or_default().is_empty() {
        return Err(wrong("it names no bucket".to_owned()));
    }
    Ok(Kind::Bucket(url))
}

/// A URL without password and query. Azure has the name of a container where others have that of a user.
fn public(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    if url.password().is_some() && url.set_password(None).is_ok() {
        // What stands before a password belongs to it.
        let _ = url.set_username("");
    }
    url.to_string()
}

/// Something that may be no URL, without what may be a secret.
fn hide(written: &str) -> String {
    let public_part = written.split(['?', '#']).next().unwrap_or_default();
    match (public_part.split_once("://"), public_part.rsplit_once('@')) {
        (Some((scheme, _)), Some((secret, rest))) if secret.matches(':').count() > 1 => format!("{scheme}://{rest}"),
        _ => public_part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(written: &str) -> Result<Place, StorageError> {
        Place::parse(written, [])
    }

    #[rstest]
    #[case("data", "data")]
    #[case("/var/lib/x", "/var/lib/x")]
    #[case("file:///var/lib/a%20b", "/var/lib/a b")]
    #[case("s3://bucket/prefix", "s3://bucket/prefix")]
    #[case("gs://bucket", "gs://bucket")]
    #[case("az://container/prefix", "az://container/prefix")]
    #[case("abfss://container@account.dfs.core.windows.net/p", "abfss://container@account.dfs.core.windows.net/p")]
    #[case("s3://key:secret@bucket/p?x=secret#secret", "s3://bucket/p")]
    fn places_are_read_and_named(#[case] written: &str, #[case] name: &str) {
        assert_eq!(parse(written).unwrap().to_string(), name);
    }

    #[rstest]
    #[case("", "it is empty")]
    #[case("https://host/bucket", "https is not known")]
    #[case("ftp://user:secret@host/p?secret", "ftp://host/p")]
    #[case("memory:///", "memory is not known")]
    #[case("s3:///prefix", "")]
    #[case("file://host/p", "begins with a slash")]
    #[case("s3://a b:secret@/?secret", "")]
    fn what_is_no_place_says_why(#[case] written: &str, #[case] expected: &str) {
        let error = parse(written).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }

    #[rstest]
    #[case("s3://bucket/prefix")]
    #[case("az://container/prefix")]
    fn clients_of_buckets_are_made(#[case] url: &str) {
        let environment =
            [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AZURE_STORAGE_ACCOUNT_NAME", "c")];
        let place = Place::parse(url, environment.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
        let Kind::Bucket(url) = place.kind() else { panic!("{place} is a directory") };
        let (_, root) = place.bucket(url).unwrap();
        assert_eq!(root.as_ref(), "prefix");
    }

    #[test]
    fn only_options_of_object_stores_are_taken() {
        let environment = [("AWS_REGION", "x"), ("HOME", "/"), ("AZURE_A", "y")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let place = Place::parse("s3://b", environment).unwrap().with_option("aws_endpoint", "http://x");
        let names: Vec<_> = place.options.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["AWS_REGION", "AZURE_A", "aws_endpoint"]);
    }
}
