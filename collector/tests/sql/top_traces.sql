-- Top expensive traces
SELECT 
  trace_id,
  SUM(cost_usd) as total_cost,
  COUNT(*) as span_count,
  MAX(duration_ms) as max_duration
FROM spans
WHERE timestamp > NOW() - INTERVAL '1 hour'
GROUP BY trace_id
ORDER BY total_cost DESC
LIMIT 10;
