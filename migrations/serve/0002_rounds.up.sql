-- How often a job that was over was put back: each time it is run anew.
ALTER TABLE jobs ADD COLUMN rounds INTEGER NOT NULL DEFAULT 0;
