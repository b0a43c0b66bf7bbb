//! Ports for servers whose address has to be known before they start, and for nobody at all.
//!
//! Everything else binds port 0. A port that was taken that way and given back may be somebody
//! else's a moment later, for tests run at the same time; ports from here lie below the range that
//! the system chooses from, so nobody gets them by chance.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports from here on; Linux chooses from 32,768 on.
const FIRST: u16 = 12_000;

/// How many there are.
const COUNT: u32 = 20_000;

/// A port that nobody listens on; within this process none is given twice.
#[must_use]
pub fn spare_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test binaries that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(61);
    loop {
        let number = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(number % COUNT).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
