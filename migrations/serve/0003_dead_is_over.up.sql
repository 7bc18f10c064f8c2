-- What is dead is over, too: it is looked for by when it ended, as the others are.
DROP INDEX jobs_old;
CREATE INDEX jobs_old ON jobs (updated_ms) WHERE state IN ('done', 'cancelled', 'dead');
