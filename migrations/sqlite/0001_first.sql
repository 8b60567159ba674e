-- The first schema. Ids are the texts people see; the numbers beside them keep the point table small.

CREATE TABLE sweep (
    sweep_no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    recipe TEXT NOT NULL,
    submitted_unix_ms INTEGER NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0 CHECK (cancelled IN (0, 1))
) STRICT;
CREATE INDEX sweep_by_name ON sweep (name, sweep_no);

CREATE TABLE run (
    run_no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    run_json TEXT NOT NULL,
    -- Facts, as columns.
    family TEXT NOT NULL,
    n_total INTEGER NOT NULL,
    n_non_embedding INTEGER NOT NULL,
    n_with_head INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    unique_tokens INTEGER NOT NULL,
    flops REAL NOT NULL,
    flops_6nd REAL NOT NULL,
    steps INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    width INTEGER NOT NULL,
    layers INTEGER NOT NULL,
    heads INTEGER NOT NULL,
    vocabulary INTEGER NOT NULL,
    mlp TEXT NOT NULL,
    -- A 64-bit seed as decimal digits: SQLite's integers are signed.
    seed TEXT NOT NULL,
    data_id TEXT NOT NULL,
    training_revision INTEGER NOT NULL,
    learning_rate REAL NOT NULL,
    base_width INTEGER NOT NULL,
    weight_decay REAL NOT NULL,
    warmup_steps INTEGER NOT NULL,
    decay TEXT NOT NULL CHECK (decay IN ('wsd', 'cosine')),
    -- Share of cool-down under wsd, floor under cosine.
    decay_parameter REAL NOT NULL,
    -- Where it stands. `attempts` is the number of the last attempt: the fence.
    state TEXT NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'finished', 'diverged', 'failed', 'cancelled')),
    attempts INTEGER NOT NULL DEFAULT 0,
    failures_program INTEGER NOT NULL DEFAULT 0,
    failures_infrastructure INTEGER NOT NULL DEFAULT 0,
    failures_without_checkpoint INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    latest_step INTEGER,
    latest_loss REAL,
    latest_class INTEGER,
    final_validation_loss REAL,
    final_validation_bits_per_byte REAL
) STRICT;
CREATE INDEX run_by_state ON run (state);

CREATE TABLE sweep_run (
    sweep_no INTEGER NOT NULL REFERENCES sweep,
    run_no INTEGER NOT NULL REFERENCES run,
    position INTEGER NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('fit', 'check')),
    budget_flops REAL,
    tokens_requested REAL NOT NULL,
    PRIMARY KEY (sweep_no, run_no)
) STRICT, WITHOUT ROWID;
CREATE INDEX sweep_run_by_run ON sweep_run (run_no);
CREATE UNIQUE INDEX sweep_run_in_order ON sweep_run (sweep_no, position);

CREATE TABLE worker (
    worker_no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    joined_unix_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE device (
    worker_no INTEGER NOT NULL REFERENCES worker,
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    backend TEXT NOT NULL,
    memory_bytes INTEGER,
    software INTEGER NOT NULL CHECK (software IN (0, 1)),
    refused TEXT,
    PRIMARY KEY (worker_no, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    attempt_no INTEGER PRIMARY KEY,
    run_no INTEGER NOT NULL REFERENCES run,
    number INTEGER NOT NULL CHECK (number >= 1),
    worker_no INTEGER NOT NULL REFERENCES worker,
    incarnation INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    device_name TEXT NOT NULL,
    backend TEXT NOT NULL,
    started_unix_ms INTEGER NOT NULL,
    ended_unix_ms INTEGER,
    -- NULL while it lives.
    outcome TEXT CHECK (outcome IN ('finished', 'diverged', 'stopped', 'failed', 'lost', 'cancelled')),
    reason TEXT,
    -- Step of the checkpoint it began after, 0 for the beginning; NULL until it is known.
    resume_step INTEGER,
    -- Its part of the canonical curve: steps above the first and up to the second.
    lineage_after INTEGER NOT NULL DEFAULT -1,
    lineage_until INTEGER NOT NULL DEFAULT 9223372036854775807,
    end_step INTEGER,
    measured_seconds REAL,
    peak_memory_bytes INTEGER,
    points_thinned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run_no, number),
    CHECK ((outcome IS NULL) = (ended_unix_ms IS NULL))
) STRICT;
-- At most one live attempt of a run.
CREATE UNIQUE INDEX attempt_live ON attempt (run_no) WHERE outcome IS NULL;

CREATE TABLE ingest_cursor (
    attempt_no INTEGER PRIMARY KEY REFERENCES attempt,
    last_seq INTEGER NOT NULL
) STRICT;

CREATE TABLE metric (
    metric_no INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    unit TEXT NOT NULL
) STRICT;

CREATE TABLE point (
    attempt_no INTEGER NOT NULL,
    metric_no INTEGER NOT NULL,
    step INTEGER NOT NULL,
    -- NULL where the class is not 0.
    value REAL,
    class INTEGER NOT NULL CHECK (class BETWEEN 0 AND 3),
    PRIMARY KEY (attempt_no, metric_no, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint (
    run_no INTEGER NOT NULL REFERENCES run,
    step INTEGER NOT NULL,
    attempt_no INTEGER NOT NULL REFERENCES attempt,
    hash TEXT NOT NULL,
    bytes INTEGER,
    worker_no INTEGER NOT NULL REFERENCES worker,
    committed_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (run_no, step, attempt_no)
) STRICT, WITHOUT ROWID;

-- Runs by sweep with their facts and results: one row is one observation once the run has finished.
CREATE VIEW v_run AS
SELECT sweep.name AS sweep, sweep.id AS sweep_id, sweep_run.role, sweep_run.budget_flops,
       run.id AS run_id, run.family, run.n_total, run.n_non_embedding, run.n_with_head, run.tokens,
       run.unique_tokens, run.flops, run.flops_6nd, run.steps, run.batch, run.sequence, run.width,
       run.layers, run.heads, run.vocabulary, run.seed, run.data_id, run.learning_rate, run.decay,
       run.state, run.attempts, run.reason, run.latest_step, run.latest_loss,
       run.final_validation_loss, run.final_validation_bits_per_byte
FROM sweep_run
JOIN sweep ON sweep.sweep_no = sweep_run.sweep_no
JOIN run ON run.run_no = sweep_run.run_no;

-- The canonical curves: one value for each metric and step of a run.
CREATE VIEW v_point AS
SELECT run.id AS run_id, metric.name AS metric, point.step,
       CASE point.class WHEN 0 THEN point.value WHEN 2 THEN 9e999 WHEN 3 THEN -9e999 END AS value,
       CASE point.class WHEN 0 THEN 'finite' WHEN 1 THEN 'nan' WHEN 2 THEN '+inf' ELSE '-inf' END
           AS class,
       attempt.number AS attempt
FROM point
JOIN attempt ON attempt.attempt_no = point.attempt_no
    AND point.step > attempt.lineage_after AND point.step <= attempt.lineage_until
JOIN run ON run.run_no = attempt.run_no
JOIN metric ON metric.metric_no = point.metric_no;
