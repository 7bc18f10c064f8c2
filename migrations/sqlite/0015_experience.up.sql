-- What agents' steps of earlier runs did. Bodies are JSON text; scores are computed from all of them.
CREATE TABLE experience (
    id    TEXT    NOT NULL PRIMARY KEY,
    mode  TEXT    NOT NULL,
    at_ms INTEGER NOT NULL,
    body  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
