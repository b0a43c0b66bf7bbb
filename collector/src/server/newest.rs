//! The newest traces, without adding up all that are stored.
//!
//! What is stored of a trace is the sum of its parts, so to order all traces by their latest end is
//! to add up all of them. The newest ones are among those of which something began lately: first
//! the last minutes, then hours are asked; only a collector that received next to nothing for so
//! long reads everything. A span that lasted longer than such a window does not put its trace among
//! the newest.

use datafusion::arrow::array::AsArray as _;

use super::{App, api};
use crate::query::QueryError;

const WINDOWS: [&str; 2] = ["10 minutes", "6 hours"];

/// A query for so many of the newest traces.
pub(crate) async fn query(app: &App, columns: &str, limit: usize) -> Result<String, QueryError> {
    for window in WINDOWS {
        let found = format!(
            "SELECT trace_id FROM trace_parts WHERE first_seen > NOW() - INTERVAL '{window}' \
             GROUP BY trace_id ORDER BY MAX(last_seen) DESC, trace_id LIMIT {limit}"
        );
        let found = api::run(app, &found).await?;
        let ids = found
            .batches
            .iter()
            .filter_map(|batch| batch.columns().first());
        let ids = ids.filter_map(|ids| ids.as_string_view_opt());
        // Ids of our own tables are hex digits, nothing else.
        let ids: Vec<String> = ids
            .flat_map(|ids| ids.iter().flatten())
            .map(|id| format!("'{id}'"))
            .collect();
        if limit > 0 && ids.len() == limit {
            let ids = ids.join(",");
            return Ok(format!(
                "SELECT {columns} FROM trace_metadata WHERE trace_id IN ({ids}) \
                 ORDER BY last_seen DESC, trace_id LIMIT {limit}"
            ));
        }
    }
    Ok(format!(
        "SELECT {columns} FROM trace_metadata ORDER BY last_seen DESC, trace_id LIMIT {limit}"
    ))
}
