//! Where a bucket is: `s3://bucket/prefix?endpoint=http://host:9000&region=eu-central-1`.

use std::fmt;

use thiserror::Error;

/// Region when nothing names one.
const REGION: &str = "us-east-1";

/// Why an address cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// Not of the documented form.
    #[error(
        "`{0}` is not an address of the form `s3://bucket/prefix?endpoint=http://host:port&region=name`"
    )]
    Form(String),
    /// No credentials.
    #[error("`{0}` is not set; an S3 tier needs it in the collector's environment")]
    Credentials(&'static str),
}

/// A bucket, a prefix in it, and the server that has it. [`fmt::Display`] writes all of it, so
/// that the text alone finds the objects again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `http://host:port` or `https://host`, without a slash at the end.
    pub(crate) endpoint: String,
    /// Region that requests are signed for.
    pub(crate) region: String,
    /// Bucket.
    pub(crate) bucket: String,
    /// Prefix of all keys, without slashes at its ends; may be empty.
    pub(crate) prefix: String,
}

impl Address {
    /// Reads an address; what it leaves out comes from `environment`
    /// (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_DEFAULT_REGION`).
    pub(crate) fn parse(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AddressError> {
        let wrong = || AddressError::Form(text.to_owned());
        let rest = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(is_name) {
            return Err(wrong());
        }
        let (mut endpoint, mut region) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", value)) => endpoint = Some(value.to_owned()),
                Some(("region", value)) => region = Some(value.to_owned()),
                _ => return Err(wrong()),
            }
        }
        let first = |names: [&str; 2]| names.into_iter().find_map(&environment);
        let region = region
            .or_else(|| first(["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .unwrap_or_else(|| REGION.to_owned());
        let endpoint = endpoint
            .or_else(|| first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
            .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let host = endpoint
            .strip_prefix("http://")
            .or_else(|| endpoint.strip_prefix("https://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '&', '?'])) {
            return Err(wrong());
        }
        Ok(Self {
            endpoint,
            region,
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }

    /// The same bucket, one folder further down.
    pub(crate) fn below(&self, folder: &str) -> Self {
        let prefix = if self.prefix.is_empty() {
            folder.to_owned()
        } else {
            format!("{}/{folder}", self.prefix)
        };
        Self {
            prefix,
            ..self.clone()
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            region,
            bucket,
            prefix,
        } = self;
        write!(
            f,
            "s3://{bucket}/{prefix}?endpoint={endpoint}&region={region}"
        )
    }
}

/// What requests are signed with.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// Access key id.
    pub(crate) key: String,
    /// Secret key.
    pub(crate) secret: String,
    /// Token of temporary credentials.
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes them from `environment`.
    pub(crate) fn from_environment(
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AddressError> {
        let need = |name: &'static str| {
            environment(name)
                .filter(|value| !value.is_empty())
                .ok_or(AddressError::Credentials(name))
        };
        Ok(Self {
            key: need("AWS_ACCESS_KEY_ID")?,
            secret: need("AWS_SECRET_ACCESS_KEY")?,
            token: environment("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn an_address_survives_its_own_text() {
        for (text, shown) in [
            (
                "s3://traces",
                "s3://traces/?endpoint=https://s3.us-east-1.amazonaws.com&region=us-east-1",
            ),
            (
                "s3://traces/a/b/?endpoint=http://127.0.0.1:9000/&region=eu-central-1",
                "s3://traces/a/b?endpoint=http://127.0.0.1:9000&region=eu-central-1",
            ),
        ] {
            let address = Address::parse(text, none).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse(shown, none).unwrap(), address);
        }
        let environment =
            |name: &str| (name == "AWS_ENDPOINT_URL").then(|| "http://minio:9000".to_owned());
        let address = Address::parse("s3://t/p", environment).unwrap();
        assert_eq!(address.endpoint, "http://minio:9000");
        assert_eq!(address.below("x").prefix, "p/x");
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "http://x",
            "s3://",
            "s3:///prefix",
            "s3://b?colour=red",
            "s3://b?endpoint=ftp://x",
            "s3://b?endpoint=http://",
            "s3://b?endpoint=http://x/path",
            "s3://bu cket",
        ] {
            assert!(Address::parse(text, none).is_err(), "{text}");
        }
    }
}
