//! Joins for a query that has little memory: by merging sorted rows instead of a hash table.
//!
//! A hash table of one side has to be in memory as a whole; sorts spill to disk. DataFusion plans
//! merge joins by itself only when it also deals rows out to partitions that run side by side,
//! which share what memory there is, and were seen to wait for each other for ever. Here each step
//! has one partition, and the hash joins of the finished plan are replaced.
//!
//! What it is not: faster. Joins that a merge cannot do stay as they are ([`can_merge`]), and may
//! not fit into memory.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::Result;
use datafusion::physical_expr::{LexOrdering, PhysicalExprRef, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct MergeJoins;

impl PhysicalOptimizerRule for MergeJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            Ok(match plan.downcast_ref::<HashJoinExec>() {
                Some(join) if can_merge(join) => Transformed::yes(merging(join)?),
                _ => Transformed::no(plan),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "merge_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether a merge join says the same. With a condition beside the equal keys, DataFusion's (55.2)
/// fails on the rows of outer joins that have no partner, when a column of the condition is never
/// null.
fn can_merge(join: &HashJoinExec) -> bool {
    let is_plain = join.filter().is_none() || *join.join_type() == JoinType::Inner;
    is_plain && !join.null_aware
}

/// The same join, of sorted rows.
fn merging(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let on = join.on();
    let left = sorted(join.left(), on.iter().map(|(left, _)| left))?;
    let right = sorted(join.right(), on.iter().map(|(_, right)| right))?;
    let merged = SortMergeJoinExec::try_new(
        left,
        right,
        on.to_vec(),
        join.filter().cloned(),
        *join.join_type(),
        vec![SortOptions::default(); on.len()],
        join.null_equality(),
    )?;
    let merged: Arc<dyn ExecutionPlan> = Arc::new(merged);
    let Some(kept) = &join.projection else {
        return Ok(merged);
    };
    let schema = merged.schema();
    let columns = kept.iter().map(|index| {
        let name = schema.field(*index).name().clone();
        let column: PhysicalExprRef = Arc::new(Column::new(&name, *index));
        (column, name)
    });
    Ok(Arc::new(ProjectionExec::try_new(
        columns.collect::<Vec<_>>(),
        merged,
    )?))
}

/// All rows of a plan in one partition, by ascending keys.
fn sorted<'a>(
    plan: &Arc<dyn ExecutionPlan>,
    keys: impl Iterator<Item = &'a PhysicalExprRef>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut plan = plan.clone();
    if plan.output_partitioning().partition_count() > 1 {
        plan = Arc::new(CoalescePartitionsExec::new(plan));
    }
    let keys = keys.map(|key| PhysicalSortExpr::new(key.clone(), SortOptions::default()));
    Ok(match LexOrdering::new(keys) {
        Some(order) => Arc::new(SortExec::new(order, plan)),
        // A join without keys is none of rows that are equal in something.
        None => plan,
    })
}
