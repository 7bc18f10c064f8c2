DROP INDEX deliveries_dead;
ALTER TABLE deliveries DROP COLUMN host;
