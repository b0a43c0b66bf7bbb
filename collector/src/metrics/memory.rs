//! Memory of the process and of its parts.

use super::Page;
use crate::memory::Status;

impl Page {
    pub(super) fn memory(&mut self, status: &Status) {
        for (name, help, value) in [
            (
                "memory_resident_bytes",
                "Resident memory of the process.",
                status.resident,
            ),
            (
                "limit_memory_resident_bytes",
                "Resident memory above which queries are refused and clients asked to wait.",
                status.limit,
            ),
        ] {
            self.family(name, "gauge", help);
            self.sample(name, "", value as u64);
        }
        self.family(
            "memory_bytes",
            "gauge",
            "Memory of a part, as it counts it.",
        );
        for part in &status.parts {
            let label = format!("part=\"{}\"", part.name);
            self.sample("memory_bytes", &label, part.bytes as u64);
        }
        self.family("limit_memory_bytes", "gauge", "Most memory of a part.");
        for part in &status.parts {
            let label = format!("part=\"{}\"", part.name);
            self.sample("limit_memory_bytes", &label, part.limit as u64);
        }
    }
}
