DROP INDEX jobs_old;
CREATE INDEX jobs_old ON jobs (updated_ms) WHERE state IN ('done', 'cancelled');
