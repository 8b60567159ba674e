-- A fourth role: a place of the grid at another learning rate, which enters no fit.

DROP VIEW v_run;

-- SQLite cannot change a CHECK in place.
CREATE TABLE sweep_run_with_sensitivity (
    sweep_no INTEGER NOT NULL REFERENCES sweep,
    run_no INTEGER NOT NULL REFERENCES run,
    position INTEGER NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('fit', 'check', 'trunk', 'sensitivity')),
    budget_flops REAL,
    tokens_requested REAL NOT NULL,
    PRIMARY KEY (sweep_no, run_no)
) STRICT, WITHOUT ROWID;
INSERT INTO sweep_run_with_sensitivity
    SELECT sweep_no, run_no, position, role, budget_flops, tokens_requested FROM sweep_run;
DROP TABLE sweep_run;
ALTER TABLE sweep_run_with_sensitivity RENAME TO sweep_run;
CREATE INDEX sweep_run_by_run ON sweep_run (run_no);
CREATE UNIQUE INDEX sweep_run_in_order ON sweep_run (sweep_no, position);

-- As before: one row is one observation once the run has finished, unless its role is `trunk` or
-- `sensitivity`.
CREATE VIEW v_run AS
SELECT sweep.name AS sweep, sweep.id AS sweep_id, sweep_run.role, sweep_run.budget_flops,
       run.id AS run_id, run.family, run.n_total, run.n_non_embedding, run.n_with_head, run.tokens,
       run.unique_tokens, run.flops, run.flops_6nd, run.steps, run.batch, run.sequence, run.width,
       run.layers, run.heads, run.vocabulary, run.seed, run.data_id, run.learning_rate, run.decay,
       run.parent_run, run.parent_step, run.own_tokens, run.own_flops, run.own_flops_6nd,
       run.state, run.attempts, run.reason, latest.latest_step, latest.latest_loss,
       run.final_validation_loss, run.final_validation_bits_per_byte
FROM sweep_run
JOIN sweep ON sweep.sweep_no = sweep_run.sweep_no
JOIN run ON run.run_no = sweep_run.run_no
LEFT JOIN ingest_cursor latest ON latest.attempt_no =
    (SELECT attempt.attempt_no FROM attempt JOIN ingest_cursor USING (attempt_no)
     WHERE attempt.run_no = run.run_no AND ingest_cursor.latest_class IS NOT NULL
     ORDER BY attempt.number DESC LIMIT 1);
