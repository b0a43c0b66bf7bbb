-- Data classification distribution
SELECT 
  data_tag,
  COUNT(*) as span_count,
  SUM(cost_usd) as total_cost
FROM spans
WHERE timestamp > NOW() - INTERVAL '1 hour'
GROUP BY data_tag;
