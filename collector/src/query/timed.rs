//! Conditions on the time column that a table meets by itself.
//!
//! A query over the last day reads whole files whose range the catalog knows, and next to nothing
//! else. Of such a file no row has to be compared and the times themselves need not be read; rows
//! in memory and of files that the range cuts are filtered here.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;

/// A comparison of the time column with a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    operator: Operator,
    moment: i64,
}

impl Bound {
    fn of(condition: &Expr, time: &str) -> Option<Self> {
        let Expr::BinaryExpr(comparison) = condition else {
            return None;
        };
        let (column, operator, moment) = match (&*comparison.left, &*comparison.right) {
            (Expr::Column(column), Expr::Literal(moment, _)) => (column, comparison.op, moment),
            (Expr::Literal(moment, _), Expr::Column(column)) => {
                (column, comparison.op.swap()?, moment)
            }
            _ => return None,
        };
        let ScalarValue::TimestampNanosecond(Some(moment), _) = moment else {
            return None;
        };
        let is_range = matches!(
            operator,
            Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq
        );
        (column.name == time && is_range).then_some(Self {
            operator,
            moment: *moment,
        })
    }

    /// True when it holds for all of a range, whose ends are included.
    fn holds(self, (first, last): (i64, i64)) -> bool {
        match self.operator {
            Operator::Gt => first > self.moment,
            Operator::GtEq => first >= self.moment,
            Operator::Lt => last < self.moment,
            _ => last <= self.moment,
        }
    }
}

/// True when [`Timed`] takes care of a condition.
pub(super) fn is_met(condition: &Expr, time: &str) -> bool {
    Bound::of(condition, time).is_some()
}

/// The conditions of one scan.
pub(super) struct Timed {
    bounds: Vec<Bound>,
    conditions: Vec<Expr>,
    schema: SchemaRef,
    /// The columns to read for the conditions.
    read: Option<Vec<usize>>,
    /// Those of them that are asked for, by their place among these.
    kept: Option<Vec<usize>>,
}

impl Timed {
    /// The conditions among `filters` on the column `time`.
    pub(super) fn new(
        schema: &SchemaRef,
        time: &str,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Self> {
        let mut bounds = Vec::new();
        let mut conditions = Vec::new();
        for filter in filters {
            if let Some(bound) = Bound::of(filter, time) {
                bounds.push(bound);
                conditions.push(filter.clone());
            }
        }
        let mut read = projection.cloned();
        let mut kept = None;
        if let Some(columns) = &mut read {
            let time = schema.index_of(time)?;
            if !columns.contains(&time) {
                kept = Some((0..columns.len()).collect());
                columns.push(time);
            }
        }
        Ok(Self {
            bounds,
            conditions,
            schema: schema.clone(),
            read,
            kept,
        })
    }

    /// True when every row of a range of times meets the conditions.
    pub(super) fn holds(&self, range: (i64, i64)) -> bool {
        self.bounds.iter().all(|bound| bound.holds(range))
    }

    /// True when there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// What to read when the conditions are to be applied.
    pub(super) fn read(&self) -> Option<&Vec<usize>> {
        self.read.as_ref()
    }

    /// Applies the conditions to a plan that reads [`Self::read`].
    pub(super) fn filter(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(condition) = conjunction(self.conditions.iter().cloned()) else {
            return Ok(input);
        };
        let schema = match &self.read {
            Some(columns) => self.schema.project(columns)?,
            None => self.schema.as_ref().clone(),
        };
        let predicate = state.create_physical_expr(condition, &DFSchema::try_from(schema)?)?;
        let filter = FilterExecBuilder::new(predicate, input);
        Ok(Arc::new(
            filter.apply_projection(self.kept.clone())?.build()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn a_bound_holds_for_a_range_when_it_holds_at_both_ends() {
        let moment = || lit(ScalarValue::TimestampNanosecond(Some(10), None));
        let time = || col("timestamp");
        for (condition, inside, outside) in [
            (time().gt(moment()), (11, 12), (10, 12)),
            (time().gt_eq(moment()), (10, 12), (9, 12)),
            (time().lt(moment()), (8, 9), (8, 10)),
            (time().lt_eq(moment()), (8, 10), (8, 11)),
            (moment().lt(time()), (11, 12), (10, 12)),
            (moment().gt_eq(time()), (8, 10), (8, 11)),
        ] {
            let bound = Bound::of(&condition, "timestamp").unwrap();
            assert!(bound.holds(inside), "{condition}");
            assert!(!bound.holds(outside), "{condition}");
            assert!(!is_met(&condition, "minute"), "{condition}");
        }
        for other in [time().eq(moment()), time().gt(lit(1i64)), time().gt(time())] {
            assert!(!is_met(&other, "timestamp"), "{other}");
        }
    }
}
