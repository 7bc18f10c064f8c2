DROP TABLE allowances;
ALTER TABLE runs DROP COLUMN reserved;
