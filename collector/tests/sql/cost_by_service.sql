-- Cost by service
SELECT 
  service_name,
  SUM(cost_usd) as total_cost,
  AVG(cost_usd) as avg_cost,
  COUNT(*) as operation_count
FROM spans
WHERE timestamp > NOW() - INTERVAL '1 day'
GROUP BY service_name
ORDER BY total_cost DESC;
