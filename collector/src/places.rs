//! Places: where the spans of warm and cold tiers are when they are not in the data folder.
//!
//! A place is an object store with an address that finds its objects again, whatever the policy
//! says later. A back end has to write whole objects, read ranges of bytes and delete: S3 does;
//! Redis (`SET`, `GETRANGE`, `DEL`) fits the same interface and is not there yet. Elasticsearch
//! has no byte ranges; it will need a table of its own in [`crate::query`].
//!
//! The hot tier is memory, log and data folder, always. Lists of traces and the ledger never leave
//! the folder, so only queries that read old spans need a place.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_config::policy::{Backend, Tier as TierPolicy, TraceStorage};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use tokio::io::AsyncReadExt as _;

use crate::s3::{Address, AddressError, PART_BYTES, S3};
use crate::store::catalog::Remote;
use crate::store::retention::{Placing, Tier};

/// The environment of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Names the S3 address of tiers whose policy names none.
const DEFAULT_URL: &str = "TRACEMETER_S3_URL";

/// The places of a data folder.
#[derive(Debug, Default)]
pub(crate) struct Places {
    warm: Option<String>,
    cold: Option<String>,
    stores: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
}

impl Places {
    /// What a policy asks for; `folder` keeps several collectors apart in one bucket.
    pub(crate) fn of(
        storage: &TraceStorage,
        folder: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AddressError> {
        let mut places = Self::default();
        let place = |name: &str, tier: &TierPolicy| -> Result<Option<String>, AddressError> {
            let backend = tier.backend.as_str();
            match tier.backend {
                Backend::Embedded => return Ok(None),
                Backend::S3 => {}
                Backend::Redis | Backend::Elasticsearch => {
                    tracing::warn!(tier = name, backend, "tier stays in the data folder");
                    return Ok(None);
                }
            }
            let url = match tier.url.as_str() {
                "" => environment(DEFAULT_URL),
                url => Some(url.to_owned()),
            };
            let Some(url) = url else {
                tracing::warn!(
                    tier = name,
                    backend,
                    "tier has no `url` and `{DEFAULT_URL}` is not set: it stays in the data folder"
                );
                return Ok(None);
            };
            let address = Address::parse(&url, &environment)?.below(folder);
            // Wrong settings are told at the start, a server that is away is not.
            let store = S3::new(address.clone(), &environment)?;
            let place = address.to_string();
            places.put(place.clone(), Arc::new(store));
            Ok(Some(place))
        };
        let warm = place("warm", &storage.warm)?;
        let cold = place("cold", &storage.cold)?;
        if storage.hot.backend != Backend::Embedded {
            let backend = storage.hot.backend.as_str();
            tracing::warn!(tier = "hot", backend, "tier stays in the data folder");
        }
        places.warm = warm;
        places.cold = cold;
        Ok(places)
    }

    fn put(&self, place: String, store: Arc<dyn ObjectStore>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.insert(place, store);
    }

    /// The store behind an address.
    pub(crate) fn open(&self, place: &str) -> Result<Arc<dyn ObjectStore>, AddressError> {
        {
            let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(store) = stores.get(place) {
                return Ok(store.clone());
            }
        }
        let address = Address::parse(place, environment)?;
        let store: Arc<dyn ObjectStore> = Arc::new(S3::new(address, environment)?);
        self.put(place.to_owned(), store.clone());
        Ok(store)
    }
}

impl Placing for Places {
    fn place(&self, tier: Tier) -> Option<&str> {
        match tier {
            Tier::Hot => None,
            Tier::Warm => self.warm.as_deref(),
            Tier::Cold => self.cold.as_deref(),
        }
    }
}

/// Writes a file as an object; a large one in parts, of which one at a time is in memory.
pub(crate) async fn upload(
    store: &dyn ObjectStore,
    object: &Remote,
    file: &FilePath,
) -> Result<(), Error> {
    let path = Path::from(object.path.as_str());
    let mut file = tokio::fs::File::open(file).await.map_err(broken)?;
    let size = file.metadata().await.map_err(broken)?.len();
    if size <= PART_BYTES as u64 {
        let part = next_part(&mut file).await?;
        return store.put(&path, part).await.map(drop);
    }
    let mut upload = store.put_multipart(&path).await?;
    let sent = parts(upload.as_mut(), &mut file).await;
    if sent.is_err() {
        // What cannot be taken back either is swept up by the bucket's own rules.
        drop(upload.abort().await);
    }
    sent
}

async fn parts(upload: &mut dyn MultipartUpload, file: &mut tokio::fs::File) -> Result<(), Error> {
    loop {
        let part = next_part(file).await?;
        if part.content_length() == 0 {
            return upload.complete().await.map(drop);
        }
        upload.put_part(part).await?;
    }
}

async fn next_part(file: &mut tokio::fs::File) -> Result<PutPayload, Error> {
    let mut part = Vec::with_capacity(64 << 10);
    let mut limited = file.take(PART_BYTES as u64);
    limited.read_to_end(&mut part).await.map_err(broken)?;
    Ok(part.into())
}

/// Reads an object into a file.
pub(crate) async fn download(
    store: &dyn ObjectStore,
    object: &Remote,
    file: &FilePath,
) -> Result<(), Error> {
    let bytes = store.get(&Path::from(object.path.as_str())).await?;
    let bytes = bytes.bytes().await?;
    tokio::fs::write(file, bytes).await.map_err(broken)
}

/// Deletes an object; one that is not there is deleted.
pub(crate) async fn delete(store: &dyn ObjectStore, object: &Remote) -> Result<(), Error> {
    match store.delete(&Path::from(object.path.as_str())).await {
        Err(Error::NotFound { .. }) => Ok(()),
        result => result,
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::Generic {
        store: "local",
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::s3_server::{KEY, S3Server, SECRET};

    fn credentials(name: &str) -> Option<String> {
        match name {
            "AWS_ACCESS_KEY_ID" => Some(KEY.to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn objects_of_one_and_of_many_parts_come_back_whole_in_ranges_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let server = S3Server::start(dir.path(), 0);
        let address = Address::parse(&server.url(), credentials).unwrap();
        let store = S3::new(address.clone(), credentials).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        for (name, size) in [("small", 1_000), ("large", 2 * PART_BYTES + 4_321)] {
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
                .take(size)
                .collect();
            let file = dir.path().join(name);
            std::fs::write(&file, &bytes).unwrap();
            let object = Remote {
                place: address.to_string(),
                path: format!("2026-11-21/{name} \u{e4}.parquet"),
            };
            upload(&store, &object, &file).await.unwrap();
            assert_eq!(server.objects().len(), 1, "{name}");
            let path = Path::from(object.path.as_str());
            let middle = store.get_range(&path, 100..900).await.unwrap();
            assert_eq!(middle, &bytes[100..900]);
            assert_eq!(store.head(&path).await.unwrap().size, size as u64);
            let back = dir.path().join("back");
            download(&store, &object, &back).await.unwrap();
            assert!(std::fs::read(&back).unwrap() == bytes, "{name}");
            delete(&store, &object).await.unwrap();
            // A second time as well.
            delete(&store, &object).await.unwrap();
            assert!(server.objects().is_empty());
            let gone = store.get(&path).await;
            assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
        }
        let wrong = |name: &str| match name {
            "AWS_SECRET_ACCESS_KEY" => Some("wrong".to_owned()),
            name => credentials(name),
        };
        let stranger = S3::new(address, wrong).unwrap();
        let refused = stranger.get(&Path::from("x")).await;
        assert!(
            matches!(refused, Err(Error::PermissionDenied { .. })),
            "{refused:?}"
        );
    }
}
