-- Who reads and writes blocks since `counted_since`. Much `reads` of client backends: the working set does not fit (cache_hit_ratio,
-- slow_queries). Much `writes` or `fsyncs` of client backends: checkpointer and background writer do not keep up.
SELECT
    i.backend_type,
    i.object,
    i.context,
    i.reads,
    i.writes,
    i.extends,
    i.evictions,
    i.fsyncs,
    i.stats_reset AS counted_since
FROM pg_stat_io i
WHERE i.reads > 0 OR i.writes > 0 OR i.extends > 0
ORDER BY coalesce(i.reads, 0) + coalesce(i.writes, 0) DESC
