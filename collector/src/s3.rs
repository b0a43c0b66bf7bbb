//! S3 and compatible servers as an [`object_store::ObjectStore`].
//!
//! What tiers and queries need and no more: write whole objects (in parts when they are large),
//! read ranges, delete. Requests are signed by AWS Signature Version 4 with the payload's hash,
//! buckets are addressed by path. It exists because the `aws` feature of the crate that the query
//! engine is built on would change features of half of the dependency tree.
//!
//! # What it is not
//!
//! It does not list, copy or rename, and takes credentials from the environment only
//! (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`): no instance roles, no
//! profile files.
//!
//! # Limits
//!
//! [`client::ATTEMPTS`] tries per request, [`client::CONNECT`] to connect, [`client::REQUEST`]
//! per try; a part has at most [`PART_BYTES`] bytes.

mod address;
mod client;
mod sign;
mod store;

pub(crate) use address::{Address, AddressError};
pub(crate) use store::S3;

/// Bytes of a part of a large object; S3 wants at least 5 MiB.
pub(crate) const PART_BYTES: usize = 8 << 20;
