-- The issue that a job is about, where it is about no change, so that a command under an issue finds it.
ALTER TABLE jobs ADD COLUMN issue INTEGER;
UPDATE jobs SET issue = json_extract(event, '$.issue.number') WHERE change IS NULL;
-- 1: the jobs of its group all wait, and go in the order in which they came; `on_conflict` is `queue` then.
ALTER TABLE jobs ADD COLUMN in_line INTEGER NOT NULL DEFAULT 0;
