//! Columns of queries that files have in another form ([`crate::store::layout`]): expressions over
//! them become expressions over what the file at hand has.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, lit};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};

use crate::store::layout::{DURATION_MS, DURATION_NS, NS_PER_MS};

/// Makes adapters for files of any layout.
#[derive(Debug)]
pub(super) struct Layouts;

impl PhysicalExprAdapterFactory for Layouts {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let is_of_layout_2 = physical_file_schema.index_of(DURATION_MS).is_err();
        let duration = physical_file_schema.index_of(DURATION_NS).ok();
        Ok(Arc::new(Adapter {
            duration: duration.filter(|_| is_of_layout_2),
            rest: DefaultPhysicalExprAdapterFactory
                .create(logical_file_schema, physical_file_schema)?,
        }))
    }
}

#[derive(Debug)]
struct Adapter {
    /// The column with nanoseconds, when the file has it instead of milliseconds.
    duration: Option<usize>,
    rest: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(at) = self.duration else {
            return self.rest.rewrite(expr);
        };
        let exchange = |expr: Arc<dyn PhysicalExpr>| {
            let column = expr.downcast_ref::<Column>();
            if column.is_none_or(|column| column.name() != DURATION_MS) {
                return Ok(Transformed::no(expr));
            }
            let ns = Arc::new(Column::new(DURATION_NS, at));
            let ns = Arc::new(CastExpr::new(ns, DataType::Float64, None));
            let ms = BinaryExpr::new(ns, Operator::Divide, lit(NS_PER_MS));
            Ok(Transformed::yes(Arc::new(ms) as Arc<dyn PhysicalExpr>))
        };
        // The rest knows the file's own columns, too.
        self.rest.rewrite(expr.transform_up(exchange).data()?)
    }
}
