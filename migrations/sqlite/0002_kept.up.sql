-- Small values that outlive a run: the set-up cache, notices already shown.
CREATE TABLE kept (
    key        TEXT    NOT NULL PRIMARY KEY,
    value      TEXT    NOT NULL,
    written_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
