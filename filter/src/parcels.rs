//! The way of what a VM leaves behind to the VM after it: a shared value per plugin, which several
//! workers write and read. What is in it is `filter_core::parcels`.

use filter_core::Engine;

use crate::host;

/// Tries to append while others do the same.
const TRIES: usize = 16;

/// Creates the shared value: the host ignores versions of a value that is not there.
pub(crate) fn prepare(key: &str) {
    let key = shared_key(key);
    if !host::has_shared_value(&key) {
        host::set_shared_value(&key, b"");
    }
}

/// Leaves what an engine holds.
pub(crate) fn leave(engine: &mut Engine, key: &str) {
    let key = shared_key(key);
    let mut own = Vec::new();
    engine.leave_parcels(host::now_unix_nanos(), &mut own);
    for _ in 0..TRIES {
        let (all, version) = host::shared_value_versioned(&key);
        let mut all = all.unwrap_or_default();
        all.extend_from_slice(&own);
        if host::replace_shared_value(&key, &all, version) {
            return;
        }
    }
}

/// Takes what others have left, if nobody else does.
pub(crate) fn take(engine: &mut Engine, key: &str) {
    let key = shared_key(key);
    let (left, version) = host::shared_value_versioned(&key);
    let left = left.unwrap_or_default();
    if !left.is_empty() && host::replace_shared_value(&key, b"", version) {
        engine.take_parcels(&left);
    }
}

/// Under which name what a plugin leaves is shared.
fn shared_key(key: &str) -> String {
    ["tracemeter.left/", key].concat()
}
