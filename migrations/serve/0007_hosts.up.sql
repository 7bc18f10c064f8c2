-- The API's host of a delivery's repository, so that two installations of one forge do not meet; NULL: nobody knows, or the
-- row is older. Lanes begin with it, where it is known, and a space.
ALTER TABLE deliveries ADD COLUMN host TEXT;
UPDATE deliveries SET lane = ' ' || lower(coalesce(repository, '')) WHERE state <> 'handled';
-- Those that failed too often are looked for when one of them comes again.
CREATE INDEX deliveries_dead ON deliveries (number) WHERE state = 'dead';
