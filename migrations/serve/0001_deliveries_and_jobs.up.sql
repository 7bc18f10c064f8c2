-- What `codeforge serve` keeps in `serve.db`: webhooks as they came, and the jobs that came of them. Times are UTC, in
-- milliseconds since 1970. What is filtered by stands in columns; the rest is JSON text.

CREATE TABLE deliveries (
    -- The order of arrival. A number is never used again: what was handled stays told apart from what comes later.
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    source     TEXT    NOT NULL,
    -- The sender's id; the signature does not cover it.
    id         TEXT    NOT NULL,
    -- SHA-256 of the body.
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    event      TEXT    NOT NULL,
    -- The repository as serve.yml names it; NULL: nobody knows yet.
    repository TEXT,
    -- Whose turn it waits for: its forge (of a sweep or a hook: nothing), a space, the repository in small letters.
    lane       TEXT    NOT NULL,
    -- Packed (LZ4, after its length). Emptied some days after the delivery was handled; id and hash stay, so that a replay is still known.
    body       BLOB    NOT NULL,
    at_ms      INTEGER NOT NULL,
    state      TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'handled', 'dead')),
    -- Not looked at before; 0: at once.
    due_ms     INTEGER NOT NULL DEFAULT 0,
    -- How often handling it was begun.
    attempts   INTEGER NOT NULL DEFAULT 0,
    -- What was decided, or why it failed.
    note       TEXT,
    handled_ms INTEGER
) STRICT;

CREATE UNIQUE INDEX deliveries_id ON deliveries (source, id);
CREATE UNIQUE INDEX deliveries_hash ON deliveries (hash, source);
CREATE INDEX deliveries_waiting ON deliveries (number) WHERE state = 'waiting';
CREATE INDEX deliveries_lane ON deliveries (lane, due_ms) WHERE state = 'waiting';
CREATE INDEX deliveries_old ON deliveries (handled_ms) WHERE handled_ms IS NOT NULL;

CREATE TABLE jobs (
    id            TEXT    NOT NULL PRIMARY KEY,
    -- The repository: its forge, the API's host, its name there.
    forge         TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    workflow      TEXT    NOT NULL,
    -- The same event makes one job.
    key           TEXT    NOT NULL,
    -- The change that it is about, so that a close or a push finds it.
    change        INTEGER,
    event         TEXT    NOT NULL,
    -- The delivery that made it; NULL: a schedule, or a person on this machine.
    delivery      INTEGER,
    actor         TEXT,
    -- Scoped by repository and workflow; NULL: the job has none.
    concurrency   TEXT,
    on_conflict   TEXT    NOT NULL CHECK (on_conflict IN ('queue', 'cancel', 'skip')),
    -- 0 a person waits, 1 a change, 2 a push, a label, a hook, 3 a time table.
    priority      INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 3),
    due_ms        INTEGER NOT NULL,
    settings      TEXT    NOT NULL,
    -- What must be approved; NULL: nothing.
    approval      TEXT,
    state         TEXT    NOT NULL CHECK (state IN ('asked', 'waiting', 'running', 'done', 'cancelled', 'dead')),
    conclusion    TEXT,
    note          TEXT,
    attempts      INTEGER NOT NULL DEFAULT 0,
    approved_by   TEXT,
    -- The price that was approved, in dollars, as text.
    approved_usd  TEXT,
    cost_usd      TEXT,
    url           TEXT,
    created_ms    INTEGER NOT NULL,
    updated_ms    INTEGER NOT NULL,
    -- Who has it, under which fence, until when. The fence only grows; a write that names an older one is refused.
    worker        TEXT,
    fence         INTEGER NOT NULL DEFAULT 0,
    lease_ms      INTEGER,
    -- It runs and is to stop, and why; told at the next renewal.
    cancel        TEXT,
    UNIQUE (forge, host, name, key)
) STRICT;

CREATE INDEX jobs_open ON jobs (state, priority, due_ms) WHERE state IN ('asked', 'waiting', 'running');
CREATE INDEX jobs_of ON jobs (forge, host, name, created_ms DESC);
CREATE INDEX jobs_newest ON jobs (created_ms DESC);
CREATE INDEX jobs_old ON jobs (updated_ms) WHERE state IN ('done', 'cancelled');

-- Whose turn it is: the repository that was served least recently goes first.
CREATE TABLE turns (
    forge     TEXT    NOT NULL,
    host      TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    served_ms INTEGER NOT NULL,
    PRIMARY KEY (forge, host, name)
) STRICT, WITHOUT ROWID;

-- Who said what to a job that waited for it: kept, also where it did not count.
CREATE TABLE approvals (
    job          TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    at_ms        INTEGER NOT NULL,
    person       TEXT    NOT NULL,
    verdict      TEXT    NOT NULL CHECK (verdict IN ('approved', 'denied', 'refused')),
    max_cost_usd TEXT,
    -- The commit that was looked at.
    commit_id    TEXT,
    -- Why it did not count.
    note         TEXT,
    PRIMARY KEY (job, at_ms, person)
) STRICT, WITHOUT ROWID;

-- Small values of the server's own: what a sweep saw last, when a schedule was due last.
CREATE TABLE notes (
    name       TEXT    NOT NULL PRIMARY KEY,
    value      TEXT    NOT NULL,
    written_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
