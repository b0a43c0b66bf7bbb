//! The controller of one worker, for the time without a collector.

use mesh_config::adaptive::{Controller, Settings, Table, Window};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Local {
    settings: Settings,
    controller: Controller<Vec<u8>>,
    window_start_nanos: Option<u64>,
}

impl Local {
    /// Has seen nothing; `settings` are those of this worker's share.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            controller: Controller::new(&settings),
            settings,
            window_start_nanos: None,
        }
    }

    /// The length of the window that has ended, if one has; the next one begins.
    pub(super) fn window(&mut self, now_nanos: u64, interval_nanos: u64) -> Option<u64> {
        let start = *self.window_start_nanos.get_or_insert(now_nanos);
        let duration = now_nanos.saturating_sub(start);
        if duration < interval_nanos.max(1) {
            return None;
        }
        self.window_start_nanos = Some(now_nanos);
        Some(duration)
    }

    /// Takes the counts of a window and makes the next table.
    pub(super) fn learn<'r>(
        &mut self,
        duration_ns: u64,
        counts: impl Iterator<Item = (&'r Vec<u8>, u64)>,
    ) {
        let counts = counts.filter(|(_, count)| *count > 0);
        let counts: Vec<(Vec<u8>, u64)> = counts
            .map(|(route, count)| (route.clone(), count))
            .collect();
        let window = Window {
            duration_ns,
            counts: &counts,
            overflow: 0,
            reported: 1,
            expected: 1,
        };
        let _ = self.controller.update(&window, &self.settings, |_| false);
    }

    /// The table in force.
    pub(super) fn table(&self) -> &Table<Vec<u8>> {
        self.controller.table()
    }
}
