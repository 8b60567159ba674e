-- The latest training loss moves from the run, a wide row, to the narrow row of the attempt's
-- cursor, which every batch writes anyway: half of the WAL was copies of pages of runs.

ALTER TABLE ingest_cursor ADD COLUMN latest_step INTEGER;
ALTER TABLE ingest_cursor ADD COLUMN latest_loss REAL;
ALTER TABLE ingest_cursor ADD COLUMN latest_class INTEGER;

UPDATE ingest_cursor SET (latest_step, latest_loss, latest_class) =
    (SELECT run.latest_step, run.latest_loss, run.latest_class
     FROM attempt JOIN run USING (run_no) WHERE attempt.attempt_no = ingest_cursor.attempt_no)
WHERE attempt_no IN
    (SELECT max(attempt_no) FROM attempt JOIN ingest_cursor USING (attempt_no) GROUP BY run_no);

DROP VIEW v_run;
ALTER TABLE run DROP COLUMN latest_step;
ALTER TABLE run DROP COLUMN latest_loss;
ALTER TABLE run DROP COLUMN latest_class;

-- Runs by sweep with their facts and results: one row is one observation once the run has finished.
CREATE VIEW v_run AS
SELECT sweep.name AS sweep, sweep.id AS sweep_id, sweep_run.role, sweep_run.budget_flops,
       run.id AS run_id, run.family, run.n_total, run.n_non_embedding, run.n_with_head, run.tokens,
       run.unique_tokens, run.flops, run.flops_6nd, run.steps, run.batch, run.sequence, run.width,
       run.layers, run.heads, run.vocabulary, run.seed, run.data_id, run.learning_rate, run.decay,
       run.state, run.attempts, run.reason, latest.latest_step, latest.latest_loss,
       run.final_validation_loss, run.final_validation_bits_per_byte
FROM sweep_run
JOIN sweep ON sweep.sweep_no = sweep_run.sweep_no
JOIN run ON run.run_no = sweep_run.run_no
LEFT JOIN ingest_cursor latest ON latest.attempt_no =
    (SELECT attempt.attempt_no FROM attempt JOIN ingest_cursor USING (attempt_no)
     WHERE attempt.run_no = run.run_no AND ingest_cursor.latest_class IS NOT NULL
     ORDER BY attempt.number DESC LIMIT 1);
