//! OCI images and bills of materials of the artefacts, as functions of bytes.
//!
//! The same input gives the same bytes on every machine and in every run: no clock, no file order,
//! no user of the build machine gets into an image. Nothing needs a container engine.
//!
//! Not a general image builder: one layer, one platform, no signing. What an image holds is held in
//! memory while it is written (the collector is the largest, about 130 MB).

mod archive;
mod digest;
mod gzip;
mod layout;

pub mod collector;
pub mod filter;
pub mod libraries;
pub mod sbom;

pub use archive::{Entry, MAX_PATH_BYTES};
pub use digest::{hex_sha256, sha256};
pub use layout::Image;
