-- Audit query to find cost discrepancies
WITH trace_costs AS (
  SELECT 
    trace_id,
    SUM(cost_usd) as calculated_cost
  FROM spans
  GROUP BY trace_id
)
SELECT 
  t.trace_id,
  t.calculated_cost,
  m.recorded_cost,
  ABS(t.calculated_cost - m.recorded_cost) as drift
FROM trace_costs t
JOIN trace_metadata m ON t.trace_id = m.trace_id
WHERE ABS(t.calculated_cost - m.recorded_cost) > 0.001
ORDER BY drift DESC;
