-- One line per run, one per journal row. Bodies are JSON text; what is filtered by stands in columns of its own.

CREATE TABLE runs (
    id         TEXT    NOT NULL PRIMARY KEY,
    workflow   TEXT    NOT NULL,
    repo       TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    -- Rises each time the run changes hands; every append names the one it holds.
    fence      INTEGER NOT NULL,
    -- Whose process holds the run; NULL: nobody's.
    owner      TEXT,
    last_seq   INTEGER NOT NULL,
    ending     TEXT,
    spend      TEXT    NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX runs_newest ON runs (created_ms DESC, id DESC);

-- No index on key or step: a run has thousands of rows, not millions, and a second tree would make each commit dearer.
CREATE TABLE journal (
    run   TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq   INTEGER NOT NULL CHECK (seq > 0),
    at_ms INTEGER NOT NULL,
    -- 'input' (a fact) or 'intent'.
    kind  TEXT    NOT NULL CHECK (kind IN ('input', 'intent')),
    -- The fact's or the work's name: 'answered', 'call_model'.
    type  TEXT    NOT NULL,
    -- The effect's key; NULL for facts from outside.
    key   TEXT,
    -- The step, where the row itself names one (intents, deadlines).
    step  TEXT,
    body  TEXT    NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT;
