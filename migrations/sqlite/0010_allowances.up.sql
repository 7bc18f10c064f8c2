-- What each run spends counts for the scopes that it belongs to (change, actor, workflow, day); a run at work holds what
-- it was given of each, so that runs of several processes keep one budget together.

-- What its calls that are out have reserved: counts as spent while nobody is at work on the run.
ALTER TABLE runs ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;

-- Amounts are in units of 10⁻⁹ US dollar.
CREATE TABLE allowances (
    run       TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    scope     TEXT    NOT NULL CHECK (scope IN ('change', 'actor', 'workflow', 'day')),
    -- Whose, daily scopes with their day: '42', '2026-11-24', '2026-11-24/ada'.
    key       TEXT    NOT NULL,
    -- What the run had spent when it came under this key: that counts elsewhere.
    elsewhere INTEGER NOT NULL,
    -- What the run may spend under this key; 0 where nothing caps it.
    held      INTEGER NOT NULL,
    -- What it spent under this key; NULL: it is still counting.
    spent     INTEGER,
    PRIMARY KEY (run, scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX allowances_of ON allowances (scope, key);
