-- The first schema, with the same meaning as SQLite's. Ids are the texts people see; the numbers
-- beside them keep the point table small. Texts that are compared by order are in byte order.

-- One row: how often a coordinator has opened the store. Every write transaction reads it under a
-- lock, so that an earlier coordinator writes nothing once a later one has raised it.
CREATE TABLE coordinator (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    epoch BIGINT NOT NULL
);
INSERT INTO coordinator (epoch) VALUES (0);

CREATE TABLE sweep (
    sweep_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT NOT NULL,
    recipe TEXT NOT NULL,
    submitted_unix_ms BIGINT NOT NULL,
    cancelled BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX sweep_by_name ON sweep (name, sweep_no);

CREATE TABLE run (
    run_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    run_json TEXT NOT NULL,
    -- Facts, as columns.
    family TEXT NOT NULL,
    n_total BIGINT NOT NULL,
    n_non_embedding BIGINT NOT NULL,
    n_with_head BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    unique_tokens BIGINT NOT NULL,
    flops DOUBLE PRECISION NOT NULL,
    flops_6nd DOUBLE PRECISION NOT NULL,
    steps BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    width BIGINT NOT NULL,
    layers BIGINT NOT NULL,
    heads BIGINT NOT NULL,
    vocabulary BIGINT NOT NULL,
    mlp TEXT NOT NULL,
    -- A 64-bit seed as decimal digits: integers are signed.
    seed TEXT NOT NULL,
    data_id TEXT NOT NULL,
    training_revision BIGINT NOT NULL,
    learning_rate DOUBLE PRECISION NOT NULL,
    base_width BIGINT NOT NULL,
    weight_decay DOUBLE PRECISION NOT NULL,
    warmup_steps BIGINT NOT NULL,
    decay TEXT NOT NULL CHECK (decay IN ('wsd', 'cosine')),
    -- Share of cool-down under wsd, floor under cosine.
    decay_parameter DOUBLE PRECISION NOT NULL,
    -- Where it stands. `attempts` is the number of the last attempt: the fence.
    state TEXT COLLATE "C" NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'finished', 'diverged', 'failed', 'cancelled')),
    attempts BIGINT NOT NULL DEFAULT 0,
    failures_program BIGINT NOT NULL DEFAULT 0,
    failures_infrastructure BIGINT NOT NULL DEFAULT 0,
    failures_without_checkpoint BIGINT NOT NULL DEFAULT 0,
    reason TEXT,
    latest_step BIGINT,
    latest_loss DOUBLE PRECISION,
    latest_class BIGINT,
    final_validation_loss DOUBLE PRECISION,
    final_validation_bits_per_byte DOUBLE PRECISION
);
CREATE INDEX run_by_state ON run (state);

CREATE TABLE sweep_run (
    sweep_no BIGINT NOT NULL REFERENCES sweep,
    run_no BIGINT NOT NULL REFERENCES run,
    position BIGINT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('fit', 'check')),
    budget_flops DOUBLE PRECISION,
    tokens_requested DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (sweep_no, run_no)
);
CREATE INDEX sweep_run_by_run ON sweep_run (run_no);
CREATE UNIQUE INDEX sweep_run_in_order ON sweep_run (sweep_no, position);

CREATE TABLE worker (
    worker_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    host TEXT NOT NULL,
    incarnation BIGINT NOT NULL,
    joined_unix_ms BIGINT NOT NULL
);

CREATE TABLE device (
    worker_no BIGINT NOT NULL REFERENCES worker,
    id TEXT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    backend TEXT NOT NULL,
    memory_bytes BIGINT,
    software BOOLEAN NOT NULL,
    refused TEXT,
    PRIMARY KEY (worker_no, id)
);

CREATE TABLE attempt (
    attempt_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_no BIGINT NOT NULL REFERENCES run,
    number BIGINT NOT NULL CHECK (number >= 1),
    worker_no BIGINT NOT NULL REFERENCES worker,
    incarnation BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    device_name TEXT NOT NULL,
    backend TEXT NOT NULL,
    started_unix_ms BIGINT NOT NULL,
    ended_unix_ms BIGINT,
    -- NULL while it lives.
    outcome TEXT CHECK (outcome IN ('finished', 'diverged', 'stopped', 'failed', 'lost', 'cancelled')),
    reason TEXT,
    -- Step of the checkpoint it began after, 0 for the beginning; NULL until it is known.
    resume_step BIGINT,
    -- Its part of the canonical curve: steps above the first and up to the second.
    lineage_after BIGINT NOT NULL DEFAULT -1,
    lineage_until BIGINT NOT NULL DEFAULT 9223372036854775807,
    end_step BIGINT,
    measured_seconds DOUBLE PRECISION,
    peak_memory_bytes BIGINT,
    points_thinned BIGINT NOT NULL DEFAULT 0,
    UNIQUE (run_no, number),
    CHECK ((outcome IS NULL) = (ended_unix_ms IS NULL))
);
-- At most one live attempt of a run.
CREATE UNIQUE INDEX attempt_live ON attempt (run_no) WHERE outcome IS NULL;

CREATE TABLE ingest_cursor (
    attempt_no BIGINT PRIMARY KEY REFERENCES attempt,
    last_seq BIGINT NOT NULL
);

CREATE TABLE metric (
    metric_no BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    unit TEXT NOT NULL
);

CREATE TABLE point (
    attempt_no BIGINT NOT NULL,
    metric_no BIGINT NOT NULL,
    step BIGINT NOT NULL,
    -- NULL where the class is not 0.
    value DOUBLE PRECISION,
    class BIGINT NOT NULL CHECK (class BETWEEN 0 AND 3),
    PRIMARY KEY (attempt_no, metric_no, step)
);

CREATE TABLE checkpoint (
    run_no BIGINT NOT NULL REFERENCES run,
    step BIGINT NOT NULL,
    attempt_no BIGINT NOT NULL REFERENCES attempt,
    hash TEXT NOT NULL,
    bytes BIGINT,
    worker_no BIGINT NOT NULL REFERENCES worker,
    committed_unix_ms BIGINT NOT NULL,
    PRIMARY KEY (run_no, step, attempt_no)
);

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
       CASE point.class WHEN 0 THEN point.value WHEN 2 THEN 'Infinity'::DOUBLE PRECISION
           WHEN 3 THEN '-Infinity'::DOUBLE PRECISION END AS value,
       CASE point.class WHEN 0 THEN 'finite' WHEN 1 THEN 'nan' WHEN 2 THEN '+inf' ELSE '-inf' END
           AS class,
       attempt.number AS attempt
FROM point
JOIN attempt ON attempt.attempt_no = point.attempt_no
    AND point.step > attempt.lineage_after AND point.step <= attempt.lineage_until
JOIN run ON run.run_no = attempt.run_no
JOIN metric ON metric.metric_no = point.metric_no;
