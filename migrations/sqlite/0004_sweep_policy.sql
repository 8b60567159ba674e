-- The terms of sweeps: priority, pause, limits, held checks, as JSON of sweep_spec::policy::Policy.
-- By id and without a reference, because the terms are stored before the sweep: a sweep that is
-- there must never be without them.
CREATE TABLE sweep_policy (
    sweep_id TEXT PRIMARY KEY,
    policy TEXT NOT NULL
) STRICT, WITHOUT ROWID;
