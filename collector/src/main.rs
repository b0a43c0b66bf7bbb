//! The `collector` command; everything is in the library but the settings of the C library's
//! allocator, which need `unsafe`.

fn main() -> std::process::ExitCode {
    #[cfg(target_env = "gnu")]
    allocator::configure();
    collector::run(give_back)
}

fn give_back() {
    #[cfg(target_env = "gnu")]
    allocator::give_back();
}

/// glibc keeps what was freed: in an arena per thread, and above the last block in use. Fewer arenas
/// and large blocks of their own let a peak go back to the system.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
mod allocator {
    use std::ffi::c_int;

    // From malloc.h.
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_MMAP_THRESHOLD: c_int = -3;
    const M_ARENA_MAX: c_int = -8;

    /// Arenas beyond it do not make allocation faster.
    const MOST_ARENAS: usize = 8;
    /// From this size on a block goes back as soon as it is freed. Column buffers are smaller: asking
    /// the system for each of them costs more than it saves.
    const LARGE: c_int = 1 << 20;
    /// Free memory at the end of the heap that may stay.
    const SPARE: c_int = 8 << 20;

    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
        fn malloc_trim(spare: usize) -> c_int;
    }

    pub(crate) fn configure() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let arenas = cores.clamp(2, MOST_ARENAS) as c_int;
        for (parameter, value) in [
            (M_ARENA_MAX, arenas),
            (M_MMAP_THRESHOLD, LARGE),
            (M_TRIM_THRESHOLD, SPARE),
        ] {
            // SAFETY: numbers in, a number out, and no other thread has been started yet.
            let _ = unsafe { mallopt(parameter, value) };
        }
    }

    pub(crate) fn give_back() {
        // SAFETY: a number in, a number out; glibc takes its own locks.
        let _ = unsafe { malloc_trim(0) };
    }
}
